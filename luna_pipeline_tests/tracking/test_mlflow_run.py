"""An MLflow run ends with its true status."""

import contextlib
import sqlite3
import time

import pytest
from mlflow import MlflowClient

from luna_pipeline.tracking import mlflow_run as mlflow_run_module
from luna_pipeline.tracking import moved_home
from luna_pipeline.tracking.mlflow_run import MlflowRun, experiment_id_of, mlflow_run
from luna_pipeline.tracking.outbox import TrackerUnavailableError


def open_run(tracking_uri: str, tmp_path, **options):
    options = {"system_metrics_seconds": None, **options}
    return mlflow_run(
        tracking_uri, experiment="nodules", artifact_location=tmp_path / "artifacts", run_name="a", **options
    )


def test_a_run_is_running_while_it_is_open_and_finished_afterwards(tracking_uri, tmp_path):
    with open_run(tracking_uri, tmp_path, tags={"data": "abc"}) as run:
        assert run.client.get_run(run.run_id).info.status == "RUNNING"

    after = MlflowClient(tracking_uri).get_run(run.run_id)
    assert (after.info.status, after.info.run_name, after.data.tags["data"]) == ("FINISHED", "a", "abc")


class Interrupted(BaseException):
    """Orchestrators interrupt with exceptions that are not an ``Exception``."""


@pytest.mark.seed_defect(65)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("loss is nan"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
        (Interrupted(), "KILLED"),
    ],
)
def test_the_status_tells_failures_from_interrupts(tracking_uri, tmp_path, error, status):
    with pytest.raises(type(error)), open_run(tracking_uri, tmp_path) as run:
        raise error
    assert run.client.get_run(run.run_id).info.status == status


def test_the_first_error_is_the_one_that_is_raised_when_mlflow_is_away_too(tracking_uri, tmp_path, monkeypatch):
    def away(self, *_arguments):
        raise ConnectionError("server is away")

    monkeypatch.setattr(MlflowClient, "set_terminated", away)
    monkeypatch.setattr(mlflow_run_module, "ERROR_PATIENCE_SECONDS", 0.0)
    with pytest.raises(ValueError, match="loss is nan") as caught, open_run(tracking_uri, tmp_path):
        raise ValueError("loss is nan")
    assert "still looks running: server is away" in caught.value.__notes__[0]


def test_artifacts_lie_where_the_caller_wants_them(tracking_uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_run(tracking_uri, tmp_path) as run:
        run.client.log_text(run.run_id, "hello", "note.txt")

    assert [path.read_text() for path in (tmp_path / "artifacts").rglob("note.txt")] == ["hello"]
    assert not (tmp_path / "mlruns").exists()


def test_the_folder_of_the_database_is_made(tmp_path):
    uri = f"sqlite:///{tmp_path}/home/mlflow.db"
    with mlflow_run(uri, experiment="a", artifact_location=tmp_path / "b", system_metrics_seconds=None) as run:
        assert MlflowRun.at(uri, run.run_id).client.get_run(run.run_id).info.run_id == run.run_id
    assert (tmp_path / "home" / "mlflow.db").is_file()


def test_two_processes_may_make_the_experiment_at_the_same_moment(tracking_uri, tmp_path, monkeypatch):
    client = MlflowClient(tracking_uri)
    made = experiment_id_of(client, "nodules", artifact_location=tmp_path)
    found = client.get_experiment_by_name("nodules")
    answers = iter([None, found])
    monkeypatch.setattr(client, "get_experiment_by_name", lambda _name: next(answers))

    assert experiment_id_of(client, "nodules", artifact_location=tmp_path) == made


def test_a_deleted_experiment_is_named(tracking_uri, tmp_path):
    client = MlflowClient(tracking_uri)
    client.delete_experiment(experiment_id_of(client, "nodules", artifact_location=tmp_path))

    with pytest.raises(ValueError, match=r"got a deleted one \(nodules\). Restore it"):
        experiment_id_of(client, "nodules", artifact_location=tmp_path)


def test_system_metrics_are_recorded_while_the_run_is_open(tracking_uri, tmp_path):
    with open_run(tracking_uri, tmp_path, system_metrics_seconds=0.05) as run:
        deadline = time.monotonic() + 20
        names: set[str] = set()
        while "system/cpu_utilization_percentage" not in names and time.monotonic() < deadline:
            names = set(run.client.get_run(run.run_id).data.metrics)

    assert "system/cpu_utilization_percentage" in names
    assert run.client.get_run(run.run_id).info.status == "FINISHED"


def test_a_run_that_was_interrupted_goes_on_as_itself(tracking_uri, tmp_path):
    with pytest.raises(KeyboardInterrupt), open_run(tracking_uri, tmp_path, tags={"epoch": "1"}) as first:
        raise KeyboardInterrupt
    with open_run(tracking_uri, tmp_path, run_id=first.run_id, tags={"epoch": "2"}) as second:
        assert second.run_id == first.run_id
        assert second.client.get_run(first.run_id).info.status == "RUNNING"

    after = first.client.get_run(first.run_id)
    assert (after.info.status, after.data.tags["epoch"]) == ("FINISHED", "2")


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_run_that_is_gone_is_replaced_by_a_new_one(tracking_uri, tmp_path, is_deleted):
    run_id = "0" * 32
    if is_deleted:
        with open_run(tracking_uri, tmp_path) as first:
            run_id = first.run_id
        first.client.delete_run(run_id)
    with open_run(tracking_uri, tmp_path, run_id=run_id) as second:
        assert second.run_id != run_id


@pytest.fixture
def asset_run(tracking_uri, tmp_path):
    """Open the run of an asset in a Dagster run by its tags, as the resource does; return its id."""

    def open_by_tags(dagster_run: str, asset: str) -> str:
        identity = {"dagster_run_id": dagster_run, "luna.asset": asset}
        with open_run(tracking_uri, tmp_path, identity=identity) as run:
            assert run.client.get_run(run.run_id).data.tags.items() >= identity.items()
            return run.run_id

    return open_by_tags


def test_two_classifiers_of_one_dagster_run_have_a_run_each_and_a_retry_finds_its_own(asset_run):
    nodule, malignancy = asset_run("d1", "nodule_classifier"), asset_run("d1", "malignancy_classifier")
    assert nodule != malignancy
    assert asset_run("d1", "nodule_classifier") == nodule
    assert asset_run("d1", "malignancy_classifier") == malignancy
    assert asset_run("d2", "nodule_classifier") not in {nodule, malignancy}


def test_no_password_of_an_address_is_told():
    from luna_pipeline.tracking.mlflow_requests import HASTY, mlflow_requests
    from luna_pipeline.tracking.outbox import TrackerUnavailableError, without_password

    assert without_password("at http://user:hunter2@127.0.0.1:9/api") == "at http://127.0.0.1:9/api"
    with pytest.raises(TrackerUnavailableError) as told, mlflow_requests(HASTY):
        raise ConnectionError("http://user:hunter2@127.0.0.1:9 does not answer")
    assert "hunter2" not in str(told.value)
    assert told.value.__suppress_context__


def test_artifacts_that_cannot_be_stored_are_reported_before_training(tracking_uri, tmp_path):
    (tmp_path / "artifacts").touch()
    line = r"MLflow's artifacts must be stored, got (Not a directory|File exists) \(run .*artifacts.*Make the folder"
    with pytest.raises(OSError, match=line) as refusal, open_run(tracking_uri, tmp_path):
        pytest.fail("trained")
    assert refusal.value.errno
    (run,) = MlflowClient(tracking_uri).search_runs(["1"])
    assert run.info.status == "FAILED"


def test_a_database_that_another_program_locks_is_reported_as_such(tracking_uri, tmp_path, monkeypatch):
    monkeypatch.setattr(moved_home, "LOCK_SECONDS", 0)
    with contextlib.closing(sqlite3.connect(tracking_uri.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackerUnavailableError, match=r"must be free at the start, .* End the program"):
            open_run(tracking_uri, tmp_path).__enter__()
