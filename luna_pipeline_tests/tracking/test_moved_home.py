"""A home that was moved or copied goes on at its new place."""

import shutil

import pytest
from mlflow.tracking._tracking_service import utils

from luna_pipeline.tracking.mlflow_run import MlflowRun, mlflow_run
from luna_pipeline.tracking.moved_home import adopt_moved_home


@pytest.fixture
def home(tmp_path, empty_database):
    folder = tmp_path / "old"
    folder.mkdir()
    shutil.copyfile(empty_database, folder / "mlflow.db")
    return folder


def run_in(home, **options):
    location = (home / "mlartifacts").as_uri()
    uri = f"sqlite:///{home}/mlflow.db"
    return mlflow_run(uri, experiment="a", artifact_location=location, system_metrics_seconds=None, **options)


@pytest.mark.parametrize("name", ["new", "n ew#ä;&+", "q=1/deeper"])
@pytest.mark.parametrize("is_copied", [False, True])
def test_a_moved_home_reads_and_writes_at_its_new_place_only(home, tmp_path, name, is_copied, caplog):
    with run_in(home) as run:
        run.client.log_text(run.run_id, "first", "note.txt")
    new = tmp_path / name
    new.parent.mkdir(exist_ok=True)
    shutil.copytree(home, new) if is_copied else home.rename(new)
    # A new process: MLflow keeps the places of runs in memory.
    utils._artifact_repos_cache.clear()
    before = sorted(home.rglob("*"))
    with run_in(new, run_id=run.run_id) as moved:
        assert moved.client.list_artifacts(run.run_id)[0].path == "note.txt"
        moved.client.log_text(run.run_id, "second", "other.txt")
    assert {path.name for path in (new / "mlartifacts").rglob("*.txt")} == {"note.txt", "other.txt"}
    assert sorted(home.rglob("*")) == before
    assert caplog.text.count("The home was moved") == 1
    assert adopt_moved_home(new / "mlflow.db", new / "mlartifacts") == []


def test_a_database_of_several_homes_keeps_its_addresses(home, tmp_path):
    with run_in(home) as run:
        run.client.log_text(run.run_id, "first", "note.txt")
    shared = tmp_path / "shared"
    shared.mkdir()
    (home / "mlflow.db").rename(shared / "mlflow.db")
    assert adopt_moved_home(shared / "mlflow.db", shared / "mlartifacts") == []
    again = MlflowRun.at(f"sqlite:///{shared}/mlflow.db", run.run_id)
    assert again.client.list_artifacts(run.run_id)[0].path == "note.txt"
