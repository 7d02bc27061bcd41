"""MLflow runs of Dagster runs: one for each asset, continued by a retry, with their true status."""

import dagster as dg
import mlflow
import pytest

from luna_pipeline.partitions import TEST_FOLDS, register_folds
from luna_pipeline.resources import LunaPaths, MlflowRuns
from luna_pipeline.runs.nested import PARENT_TAG, UNLAUNCHED_TAG
from luna_pipeline_tests.mlflow_fixtures import empty_database, quiet_mlflow, tracking_uri

__all__ = ["empty_database", "quiet_mlflow", "tracking_uri"]

OPENED: dict[str, list[str]] = {}


def asset_that_trains(name: str) -> dg.AssetsDefinition:
    """Return an asset with an MLflow run; the asset ``fails`` fails at the first attempt."""

    @dg.asset(name=name)
    def train(context: dg.AssetExecutionContext, mlflow_runs: MlflowRuns) -> None:
        with mlflow_runs.opener(context)(name, None) as run:
            run.client.log_metric(run.run_id, "a", 1.0)
            OPENED.setdefault(name, []).append(run.run_id)
            if name == "fails" and len(OPENED[name]) == 1:
                raise ValueError(name)

    return train


def job_of_two() -> dg.JobDefinition:
    """A job of two assets with an MLflow run each; a re-execution rebuilds it from this function."""
    definitions = dg.Definitions(
        assets=[asset_that_trains("works"), asset_that_trains("fails")],
        jobs=[dg.define_asset_job("two", "*")],
        resources={"mlflow_runs": MlflowRuns(paths=LunaPaths())},
        executor=dg.in_process_executor,
    )
    return definitions.resolve_job_def("two")


@pytest.fixture
def twice(tmp_path, tracking_uri, monkeypatch):
    """Run the job, of which one asset fails, and re-execute it; yield the first statuses and the first run's id."""
    OPENED.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as instance:
        first = job_of_two().execute_in_process(instance=instance, raise_on_error=False)
        client = mlflow.MlflowClient(tracking_uri)
        statuses = {name: client.get_run(runs[-1]).info.status for name, runs in OPENED.items()}
        options = dg.ReexecutionOptions(parent_run_id=first.run_id)
        with dg.execute_job(dg.reconstructable(job_of_two), instance=instance, reexecution_options=options) as second:
            assert second.success
        yield client, statuses, first.run_id


def test_two_assets_of_one_run_have_two_mlflow_runs_with_their_own_status(twice):
    _, statuses, _ = twice
    assert statuses == {"works": "FINISHED", "fails": "FAILED"}
    assert OPENED["works"][0] != OPENED["fails"][0]


def test_a_retry_goes_on_in_its_own_mlflow_run_and_ends_it(twice):
    client, _, dagster_run_id = twice
    assert OPENED["fails"][0] == OPENED["fails"][1]
    run = client.get_run(OPENED["fails"][0])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "fails")
    assert run.data.tags["dagster_run_id"] == dagster_run_id
    assert (run.data.tags["luna.asset"], run.data.tags["dagster_job"]) == ("fails", "two")
    assert mlflow.active_run() is None


def test_folds_of_one_outer_run_have_a_run_each_that_a_second_attempt_finds_again(tmp_path, tracking_uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    opened: list[str] = []

    @dg.asset(partitions_def=TEST_FOLDS)
    def trains(context: dg.AssetExecutionContext, mlflow_runs: MlflowRuns) -> None:
        with mlflow_runs.opener(context)("trains", None) as run:
            opened.append(run.run_id)

    @dg.asset
    def outer() -> None:
        pass

    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as instance:
        register_folds(instance, [0, 1])
        tags = {PARENT_TAG: dg.materialize([outer], instance=instance).run_id}
        options = {"instance": instance, "tags": tags, "resources": {"mlflow_runs": MlflowRuns(paths=LunaPaths())}}
        for fold in ("0", "1", "0"):
            assert dg.materialize([trains], partition_key=fold, **options).success
        # A re-execution has copied the tags of the nested run.
        options["tags"] = {**tags, UNLAUNCHED_TAG: "the nested run"}
        monkeypatch.setenv("LUNA_DAGSTER_URL", "http://dagster:3000/")
        again = dg.materialize([trains], partition_key="0", **options).run_id
    client = mlflow.MlflowClient(tracking_uri)
    assert [client.get_run(run).data.tags["luna.test_fold"] for run in opened] == ["0", "1", "0", "0"]
    assert [opened.index(run) for run in opened] == [0, 1, 0, 3]
    assert client.get_run(opened[0]).data.tags["dagster_run_id"] == tags[PARENT_TAG]
    own = client.get_run(opened[3]).data.tags
    assert (own["dagster_run_id"], own["dagster_run_url"]) == (again, f"http://dagster:3000/runs/{again}")
    # Dagster's name of the implicit job says nothing.
    assert own["dagster_job"] == "assets"
    assert own["mlflow.source.name"] == "Dagster asset trains"
    assert "dagster_run_url" not in client.get_run(opened[0]).data.tags
