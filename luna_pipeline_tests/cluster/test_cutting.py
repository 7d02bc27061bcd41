"""Cutting on Ray writes the same files as without it, whatever happens to workers."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest

from luna_pipeline.cluster.cutting import MAX_RETRIES, _num_in_flight, run_jobs_on_ray
from luna_pipeline.cluster.session import RayResources, ray_session
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.cutouts.workers import run_jobs
from luna_pipeline.core.storage.files import listing, sha256_of
from luna_pipeline.launchers.cutting import create_cutouts
from luna_pipeline.resources import CutoutCutting, LunaPaths
from luna_pipeline.settings import Settings
from luna_pipeline_tests.cluster.stores import CountingStore, FaultyStore, KillerStore, OtherDiskStore, WaitingStore
from luna_pipeline_tests.cluster.two_nodes import can_have_networks, processes_of, two_nodes
from luna_pipeline_tests.core.cutouts.data_root import UIDS, make_service, write_data_root
from luna_pipeline_tests.launchers.test_cutting import ALL, Listener
from luna_pipeline_tests.processes import wait_for


@pytest.fixture(scope="module", autouse=True)
def two_cpus(storage_environment):
    """Start a Ray that all tests share."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in storage_environment.items():
            patch.setenv(name, value)
        with ray_session(num_cpus=2) as there:
            yield there


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return (root, *write_data_root(root))


@pytest.fixture
def jobs(shared, tmp_path):
    service = make_service(*shared, store=CutoutStore(tmp_path / "cutouts"))
    return [service.job(uid) for uid in UIDS]


def in_store(job, kind, folder):
    folder.mkdir(exist_ok=True)
    return replace(job, store=kind(folder))


def settings_of(data, home) -> Settings:
    return Settings(data_dir=data, home=home, mlflow_tracking_uri="", cache_dir=home / "cache")


def checksums(settings) -> dict[str, str]:
    names = [name for name in listing(settings.cutouts_dir) if name.endswith(".npz")]
    return {name: sha256_of(settings.cutouts_dir / name) for name in names}


@pytest.fixture(scope="module")
def cut_by_both(phantom_source, tmp_path_factory):
    """Return the settings of two homes, one cut by this process and one on Ray."""
    both = []
    for run in (run_jobs, run_jobs_on_ray):
        settings = settings_of(phantom_source, tmp_path_factory.mktemp("home"))
        assert create_cutouts(settings, ALL, Listener(), run=run).num_cut == 6
        both.append(settings)
    return both


def test_files_and_index_are_those_of_this_machine_alone(cut_by_both):
    alone, on_ray = cut_by_both
    assert len(checksums(alone)) == 6
    assert checksums(on_ray) == checksums(alone)
    tables = [pd.read_parquet(settings.tables_dir / "cutout_index.parquet") for settings in cut_by_both]
    pd.testing.assert_frame_equal(*tables)


def nobody(jobs, *, workers=None):
    raise AssertionError("nobody is needed where everything is there")


def test_a_second_run_does_nothing(cut_by_both):
    _, settings = cut_by_both
    assert create_cutouts(settings, ALL, Listener(), run=nobody) is None
    (settings.cutouts_dir / ".receipt.json").unlink()
    summary = create_cutouts(settings, ALL, Listener(), run=nobody)
    assert (summary.num_cut, summary.num_current) == (0, 6)


def test_a_job_that_was_done_is_current(jobs):
    assert [result.outcome for _, result in run_jobs_on_ray(jobs)] == ["cut"] * 3
    assert [result.outcome for _, result in run_jobs_on_ray(jobs)] == ["current"] * 3


def test_an_unreadable_ct_is_reported_as_by_this_machine_and_the_others_are_cut(tmp_path):
    tables = write_data_root(tmp_path)
    service = make_service(tmp_path, *tables, store=CutoutStore(tmp_path / "cutouts"))
    (raw,) = tmp_path.rglob(f"{UIDS[1]}.raw")
    raw.write_bytes(raw.read_bytes()[:-2])
    told = {}
    summary = service.cut_many(run=run_jobs_on_ray, on_failure=lambda uid, reason: told.update({uid: reason}))
    assert sorted(summary.cut) == [UIDS[0], UIDS[2]]
    assert summary.failed == told == dict(run_jobs([service.job(UIDS[1])]))
    assert raw.name in told[UIDS[1]]


def test_a_fault_of_the_code_is_named_and_costs_the_other_series_nothing(jobs, tmp_path):
    faulty = in_store(jobs[0], FaultyStore, tmp_path / "faulty")
    results = dict(run_jobs_on_ray([faulty, *jobs[1:]]))
    assert "must be processed without an unforeseen error, got KeyError: 'a fault'" in results[UIDS[0]]
    assert [results[uid].outcome for uid in UIDS[1:]] == ["cut", "cut"]


def test_files_on_another_disk_are_refused(jobs, tmp_path):
    elsewhere = in_store(jobs[0], OtherDiskStore, tmp_path / "other")
    results = dict(run_jobs_on_ray([elsewhere, *jobs[1:]]))
    assert results[UIDS[0]] == (
        "Cutouts must lie where all machines of the cluster see them, got a file that is not here (series 1.2.1, "
        f"folder {tmp_path / 'other'}). Set LUNA_HOME to a shared disk or to S3."
    )
    assert [results[uid].outcome for uid in UIDS[1:]] == ["cut", "cut"]


def test_a_worker_that_would_cut_other_voxels_does_not(jobs):
    newer = replace(jobs[0], wanted=replace(jobs[0].wanted, code="99"))
    ((_, reason),) = run_jobs_on_ray([newer])
    assert "got code 1 on a worker and 99 on the driver (series 1.2.1)" in reason
    assert jobs[0].store.uids() == []


def test_no_more_workers_cut_than_are_wanted(jobs, tmp_path):
    counted = [in_store(job, CountingStore, tmp_path / "counted") for job in jobs]
    assert len(list(run_jobs_on_ray(counted, workers=1))) == 3
    assert [path.name for path in tmp_path.glob("counted/counted-*")] == ["counted-1"]


@pytest.mark.parametrize(
    ("num_cpus", "workers", "expected"), [(8, None, 16), (8, 3, 3), (8, 8, 16), (8, 20, 16), (0, None, 2), (2.5, 2, 4)]
)
def test_a_bounded_number_of_series_is_handed_out(num_cpus, workers, expected):
    assert _num_in_flight(RayResources(num_cpus, 0.0, 1), workers) == expected


def test_jobs_are_made_as_they_are_handed_out(jobs):
    made = []
    results = run_jobs_on_ray(made.append(job) or job for job in jobs * 10)
    next(results)
    # Two in work and two queued.
    assert len(made) == 4
    results.close()


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_makes_no_sense_is_refused(workers):
    with pytest.raises(ValueError, match=f"whole number of workers from 1, got {workers}"):
        list(run_jobs_on_ray([], workers=workers))


def test_what_is_in_work_is_given_up_with_the_generator(jobs, tmp_path):
    folder = tmp_path / "waiting"
    waiting = [in_store(job, WaitingStore, folder) for job in jobs[1:]] * 5
    results = run_jobs_on_ray([jobs[0], *waiting])
    assert next(results)[0] == UIDS[0]
    wait_for(lambda: len(list(folder.glob("writes-*"))) == 2, limit_seconds=30, what="two series in work")
    results.close()
    wait_for(lambda: len(list(folder.glob("interrupted-*"))) == 2, limit_seconds=30, what="two interruptions")
    (folder / "go").touch()
    assert [result.outcome for _, result in run_jobs_on_ray([jobs[2]])] == ["cut"]
    assert list(folder.glob("*.npz")) == []


@contextlib.contextmanager
def killing_the_first_writer(folder):
    """Kill the first writing worker, and let later ones write."""

    def kill() -> None:
        (first,) = wait_for(lambda: list(folder.glob("writes-*")), limit_seconds=60, what="a series in work")
        os.kill(int(first.name.removeprefix("writes-")), signal.SIGKILL)
        (folder / "go").touch()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.slow
def test_a_series_whose_worker_is_killed_is_cut_by_another(jobs, tmp_path):
    folder = tmp_path / "waiting"
    waiting = in_store(jobs[0], WaitingStore, folder)
    with killing_the_first_writer(folder):
        results = dict(run_jobs_on_ray([waiting, *jobs[1:]]))
    assert [results[uid].outcome for uid in UIDS] == ["cut"] * 3
    assert len(list(folder.glob("writes-*"))) == 2
    assert run_jobs([jobs[0]]).__next__()[1].outcome == "cut"
    assert waiting.store.path(UIDS[0]).read_bytes() == jobs[0].store.path(UIDS[0]).read_bytes()


@pytest.mark.slow
def test_a_series_that_kills_every_worker_is_said_and_the_others_are_cut(jobs, tmp_path):
    killer = in_store(jobs[0], KillerStore, tmp_path / "killer")
    results = dict(run_jobs_on_ray([killer, *jobs[1:]]))
    assert results[UIDS[0]] == "A worker must live until its series is cut, got one that was killed (series 1.2.1)."
    assert [results[uid].outcome for uid in UIDS[1:]] == ["cut", "cut"]
    assert len(list(tmp_path.glob("killer/killed-*"))) == 1 + MAX_RETRIES


def test_dagsters_runs_cut_on_ray_where_they_shall():
    assert CutoutCutting(paths=LunaPaths()).run_jobs is None
    assert CutoutCutting(paths=LunaPaths(), on_ray=True).run_jobs is run_jobs_on_ray


def test_dagsters_job_cuts_the_same_files_on_ray(luna, cut_by_both):
    assert luna.run("ingest").success
    result = luna.run("cut", run_config={"resources": {"cutting": {"config": {"on_ray": True}}}})
    assert luna.cut_uids(result) == set(luna.uids)
    assert checksums(Settings.from_environment()) == checksums(cut_by_both[0])


def python(*arguments, settings, home_of_user, check=False):
    # Not the environment of the tests, which contains their Ray's token.
    environment = {
        "LUNA_DATA_DIR": str(settings.data_dir),
        "LUNA_HOME": str(settings.home),
        "HOME": str(home_of_user),
        "LUNA_CACHE": str(settings.cache_dir),
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=check)


def test_ray_is_not_loaded_where_nobody_asks_for_it(cut_by_both, tmp_path):
    script = (
        "import sys; from luna_pipeline.cli import cli\n"
        "cli(['create_cutouts'], standalone_mode=False); print('ray' in sys.modules)"
    )
    settings = settings_of(cut_by_both[0].data_dir, tmp_path / "home")
    done = python("-c", script, settings=settings, home_of_user=tmp_path, check=True)
    assert done.stdout.split("\n")[-2] == "False"


@pytest.mark.slow
def test_the_command_cuts_on_a_ray_of_this_machine(cut_by_both, tmp_path):
    settings, home_of_user = settings_of(cut_by_both[0].data_dir, tmp_path / "home"), tmp_path / "user"
    home_of_user.mkdir()
    run = partial(python, "-m", "luna_pipeline.cli", "create_cutouts", settings=settings, home_of_user=home_of_user)
    done = run("--on-ray", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "6 series cut, 0 were there and right, 0 failed" in done.stdout
    assert checksums(settings) == checksums(cut_by_both[0])
    assert list(home_of_user.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not can_have_networks(), reason="needs the right to make networks")
def test_the_command_cuts_on_the_cluster_that_the_environment_names(cut_by_both, tmp_path):
    settings = settings_of(cut_by_both[0].data_dir, tmp_path / "home")
    own = {"LUNA_DATA_DIR": str(settings.data_dir), "LUNA_HOME": str(settings.home), "PYTHONWARNINGS": "ignore"}
    with two_nodes(tmp_path) as cluster:
        command = cluster.command("python", "-m", "luna_pipeline.cli", "create_cutouts", "--on-ray")
        environment = {**os.environ, **cluster.environment, **own}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert {p.name() for p in processes_of(cluster.host)} >= {"raylet", "gcs_server"}
    assert checksums(settings) == checksums(cut_by_both[0])


def test_the_command_says_in_a_line_that_there_is_no_cluster(cut_by_both, tmp_path):
    settings = settings_of(cut_by_both[0].data_dir, tmp_path / "home")
    command = ["-m", "luna_pipeline.cli", "create_cutouts", "--ray-address", "127.0.0.1:1"]
    done = python(*command, settings=settings, home_of_user=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("The Ray cluster must answer, got [Errno 111] Connection refused (127.0.0.1:1).")
