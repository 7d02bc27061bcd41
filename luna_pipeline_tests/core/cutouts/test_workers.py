import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from luna_pipeline.core.cutouts import workers
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.cutouts.workers import run_jobs
from luna_pipeline_tests.core.cutouts.data_root import UIDS, make_service, write_data_root


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return (root, *write_data_root(root))


def test_two_workers_write_the_files_that_one_writes(shared, tmp_path):
    stores = [CutoutStore(tmp_path / name) for name in ("one", "two")]
    for num_workers, store in enumerate(stores, start=1):
        outcomes = []
        summary = make_service(*shared, store=store).cut_many(workers=num_workers, on_outcome=outcomes.append)
        assert sorted(summary.cut) == sorted(outcome.series_instance_uid for outcome in outcomes) == UIDS
    for uid in UIDS:
        assert stores[0].path(uid).read_bytes() == stores[1].path(uid).read_bytes()


def test_a_broken_series_fails_alone_in_a_worker_too(shared, tmp_path):
    root, catalogue, candidates = shared
    stray = candidates.copy()
    stray.loc[0, "x_mm"] += 10_000
    service = make_service(root, catalogue, stray, store=CutoutStore(tmp_path))
    told = {}
    summary = service.cut_many(workers=2, on_failure=lambda uid, reason: told.update({uid: reason}))
    assert list(summary.failed) == [UIDS[0]]
    assert "must lie in its CT" in summary.failed[UIDS[0]]
    assert told == summary.failed
    assert sorted(summary.cut) == UIDS[1:]


class SlowStore(CutoutStore):
    """A slow store that records the writing processes and hides their files, so that all jobs are always run."""

    def write(self, series_instance_uid, cutouts, **options):
        time.sleep(0.2)
        (self.root / f"pid-{os.getpid()}").write_text(str(os.getpid()))
        # In separate folders, so that another process never finds a series done.
        return CutoutStore(self.root / f"of-{os.getpid()}").write(series_instance_uid, cutouts, **options)


class KillerStore(SlowStore):
    """A store that kills a worker process, as the system does when memory is short, but not the main process."""

    def write(self, series_instance_uid, cutouts, **options):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(series_instance_uid, cutouts, **options)


def test_a_killed_worker_is_said_and_the_other_series_are_cut(shared, tmp_path):
    service = make_service(*shared, store=SlowStore(tmp_path))
    killer = replace(service.job(UIDS[0]), store=KillerStore(tmp_path))
    # Every third job kills its worker; at least one of them is run by a worker.
    jobs = [service.job(UIDS[1]), service.job(UIDS[2]), killer] * 20
    results = list(run_jobs(jobs, workers=2))
    assert len(results) == len(jobs)
    killed = [result for uid, result in results if uid == UIDS[0] and isinstance(result, str)]
    assert killed
    assert all("got one that was killed" in reason for reason in killed)
    assert all(result.outcome == "cut" for uid, result in results if uid != UIDS[0])


def test_other_processes_take_part(shared, tmp_path):
    service = make_service(*shared, store=SlowStore(tmp_path))
    jobs = [service.job(UIDS[number % 3]) for number in range(60)]
    assert len(list(run_jobs(jobs, workers=2))) == 60
    pids = {int(path.read_text()) for path in tmp_path.glob("pid-*")}
    assert os.getpid() in pids
    assert len(pids) == 2


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_makes_no_sense_is_refused(workers):
    with pytest.raises(ValueError, match="whole number of workers from 1"):
        list(run_jobs([], workers=workers))


MAIN = """
import sys
from pathlib import Path
print("imported", flush=True)
from luna_pipeline.core.cutouts import workers
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline_tests.core.cutouts.data_root import make_service, write_data_root
if __name__ == "__main__":
    root = Path(sys.argv[1])
    service = make_service(root, *write_data_root(root), store=CutoutStore(root / "cutouts"))
    print(service.cut_many(workers=2).num_cut)
"""


def test_a_worker_does_not_import_the_program_that_was_started(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(MAIN)
    (tmp_path / "data").mkdir()
    command = [sys.executable, str(script), str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["imported", "3"]


PARENT = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
import multiprocessing, os
from luna_pipeline.core.cutouts.workers import _end_with
if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), _end_with, (os.getpid(),))
    pids = [pool.submit(os.getpid).result() for _ in range(2)]
    print(*sorted(pool._processes), flush=True)
    time.sleep(600)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert workers
        parent.kill()
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)


def test_a_ctrl_c_while_a_worker_starts_leaves_it_alone_and_is_ignored_later_too():
    with workers._pool(1) as pool:
        with workers._new_workers():
            start = pool.submit(os.getpid)
        (pid,) = pool._processes
        os.kill(pid, signal.SIGINT)
        assert start.result() == pid
        os.kill(pid, signal.SIGINT)
        # Its mask is as before: a program that a worker starts can be interrupted.
        assert pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result() == set()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
