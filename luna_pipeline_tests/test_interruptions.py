"""Runs that are killed, terminated or interrupted: no partial files, correct status, and the next run resumes."""

import json
import re
import signal

import dagster as dg
import numpy as np
import pytest

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.runs.nested import ALL_ASSETS
from luna_pipeline_tests.prepared import CUT, INGEST, Job, run_on
from luna_pipeline_tests.processes import session_of, started, wait_for

pytestmark = pytest.mark.slow


def training(num_epochs: int) -> Job:
    config = {"recipe": "demo", "epochs": num_epochs, "batch_size": 8}
    return "train_nodule_classifier", {"ops": {"nodule_classifier": {"config": config}}}


def execute(job: str, *options: str) -> list[str]:
    return ["dagster", "job", "execute", "-m", "luna_pipeline.definitions", "-j", job, *options]


def run_to_end(folders, job: str, *options: str, limit_seconds: float = 240) -> int:
    with started(execute(job, *options), environment=folders.environment, log=folders.log) as process:
        wait_for(lambda: process.poll() is not None, limit_seconds=limit_seconds, what=f"The end of {job}")
        return process.returncode


def run_states(folders, job: str) -> tuple[dg.DagsterRunStatus, list[str]]:
    """Return the status of the newest run of a job in Dagster, and those of all runs in MLflow."""
    import mlflow

    with dg.DagsterInstance.from_config(str(folders.dagster)) as instance:
        run = instance.get_runs(dg.RunsFilter(job_name=job), limit=1)[0]
    client = mlflow.MlflowClient(f"sqlite:///{folders.home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("luna_pipeline")
    return run.status, [run.info.status for run in client.search_runs([experiment.experiment_id])]


def assert_whole(folders) -> None:
    """Every file under a final name can be read whole."""
    store = CutoutStore(folders.home / "cutouts")
    for uid in store.uids():
        assert store.check(uid) is None
        with np.load(store.path(uid), allow_pickle=False) as members:
            assert all(members[name].shape is not None for name in members.files)
    for path in (folders.home / "checkpoints").rglob("*.pt"):
        load_checkpoint(path)


def test_kill_in_the_middle_of_cutting_leaves_whole_files_and_the_next_run_goes_on(folders_after):
    folders = folders_after(INGEST)
    cutouts = folders.home / "cutouts"
    with started(execute("cut"), environment=folders.environment, log=folders.log) as process:
        wait_for(lambda: len(list(cutouts.glob("*.npz"))) >= 2, limit_seconds=120, what="Cutting")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert_whole(folders)
    done = {path.name: path.stat().st_mtime_ns for path in cutouts.glob("*.npz")}
    run_on(folders, CUT)
    assert_whole(folders)
    assert len(list(cutouts.glob("*.npz"))) == folders.num_series
    # What was whole was adopted, not cut again.
    assert {name: (cutouts / name).stat().st_mtime_ns for name in done} == done


def test_kill_in_the_middle_of_training_leaves_whole_checkpoints_and_the_next_run_resumes(folders_after):
    folders = folders_after(INGEST, CUT)
    name, config = training(num_epochs=3)
    last = folders.home / "checkpoints/nodule_classifier/0.0.1-fold0/last.pt"
    command = execute(name, "-c", folders.write_config(json.dumps(config)))
    with started(command, environment=folders.environment, log=folders.log) as process:
        wait_for(last.exists, limit_seconds=180, what="The first epoch")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert_whole(folders)
    assert not last.with_name("best.pt").exists()
    assert load_checkpoint(last).epoch < 3
    run_on(folders, (name, config))
    assert_whole(folders)
    assert load_checkpoint(last.with_name("best.pt")).config.num_epochs == 3
    assert not (last.parent.parent / "0.0.1-fold0+1").exists()


def test_terminated_training_is_cancelled_in_dagster_killed_in_mlflow_and_keeps_its_checkpoint(folders_after):
    folders = folders_after(INGEST, CUT)
    last = folders.home / "checkpoints/nodule_classifier/0.0.1-fold0/last.pt"
    name, config = training(num_epochs=200)
    command = execute(name, "-c", folders.write_config(json.dumps(config)))
    with started(command, environment=folders.environment, log=folders.log) as process:
        wait_for(last.exists, limit_seconds=180, what="The first epoch")
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: process.poll() is not None, limit_seconds=60, what="The end after the signal")
        assert process.returncode != 0
        assert session_of(process.pid) == []
    load_checkpoint(last)
    assert run_states(folders, name) == (dg.DagsterRunStatus.CANCELED, ["KILLED"])


def test_interrupted_demo_cancels_the_runs_inside_it_as_well_and_training_keeps_its_checkpoint(folders):
    command = execute("demo", "-c", folders.write_config("ops: {make_phantom_data: {config: {epochs: 200}}}\n"))
    last = folders.home / "checkpoints/nodule_classifier/0.0.1-fold0/last.pt"
    with started(command, environment=folders.environment, log=folders.log) as process:
        wait_for(last.exists, limit_seconds=240, what="The first epoch")
        process.send_signal(signal.SIGINT)
        wait_for(lambda: process.poll() is not None, limit_seconds=60, what="The end after the signal")
        assert process.returncode != 0
        assert session_of(process.pid) == []
    load_checkpoint(last)
    assert run_states(folders, "train_nodule_classifier") == (dg.DagsterRunStatus.CANCELED, ["KILLED"])
    with dg.DagsterInstance.from_config(str(folders.dagster)) as instance:
        status = {run.job_name: run.status for run in instance.get_runs()}
    assert status["demo"] == dg.DagsterRunStatus.CANCELED
    assert status[ALL_ASSETS] == dg.DagsterRunStatus.CANCELED
    assert status["cut"] == dg.DagsterRunStatus.SUCCESS


def test_demo_shows_its_stages_on_an_empty_dagster_home_and_the_second_time_has_nothing_to_do(folders):
    config = folders.write_config("ops: {make_phantom_data: {config: {epochs: 1}}}\n")
    command = ["python", "-m", "luna_pipeline.terminal", "demo", "--config", config]
    for limit_seconds in (240, 20):
        with started(command, environment=folders.environment, log=folders.log) as process:
            wait_for(lambda: process.poll() is not None, limit_seconds=limit_seconds, what="The end of the demo")
            assert process.returncode == 0
    first, second = folders.log.read_text().split("Nothing to do: ")
    assert "\x1b" not in first + second
    stages = re.findall(r"^\[(\d)/6\] \w+(?: CTs)? +(.*) \(\d+\.\d s\)$", first, re.MULTILINE)
    assert [number for number, _ in stages] == list("123456")
    results = [result for _, result in stages]
    assert results[0] == f"{folders.num_series} synthetic CTs"
    assert results[2] == f"{folders.num_series} CTs cut, 0 unchanged, 0 failed"
    assert re.fullmatch(r"validation AUC 0\.\d+ after 1 epochs", results[3])
    assert "CPM" in results[5]
    for text in (first, second):
        assert "nodule_classifier" in text.partition("Untouched test folds: ")[2]
        assert "make ui ROOT=.luna/demo" in text
    (log,) = (folders.home / "logs").iterdir()
    for line in ("AUC", "Checkpoint", "MLflow run", "TensorBoard", "make ui ROOT="):
        assert line in log.read_text()
    with dg.DagsterInstance.from_config(str(folders.dagster)) as instance:
        jobs = {run.job_name for run in instance.get_runs() if run.status == dg.DagsterRunStatus.SUCCESS}
    assert jobs == {"demo", "ingest", "cut", "index", "train_nodule_classifier", "evaluate", ALL_ASSETS}
