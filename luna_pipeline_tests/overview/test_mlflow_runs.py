"""The list of MLflow's runs."""

from luna_pipeline.launchers.installation import EXPERIMENT
from luna_pipeline.overview.mlflow_runs import mlflow_run_rows
from luna_pipeline.settings import Settings


def test_runs_of_the_experiment_are_listed_and_none_before_the_first(tmp_path, tracking_uri):
    from mlflow import MlflowClient

    settings = Settings.from_environment({"LUNA_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": tracking_uri})
    absent = f"sqlite:///{tmp_path / 'absent.db'}"
    assert mlflow_run_rows(Settings.from_environment({"MLFLOW_TRACKING_URI": absent}), limit=5) == []
    assert not (tmp_path / "absent.db").exists()
    assert mlflow_run_rows(settings, limit=5) == []
    client = MlflowClient(tracking_uri)
    experiment = client.create_experiment(EXPERIMENT)
    run = client.create_run(
        experiment, run_name="nodule_classifier 0.0.1", tags={"luna.test_fold": "3"}, start_time=1000
    )
    client.set_terminated(run.info.run_id, "FAILED", end_time=3500)
    (row,) = mlflow_run_rows(settings, limit=5)
    assert (row["name"], row["status"], row["seconds"]) == ("nodule_classifier 0.0.1", "failed", 2.5)
    assert (row["fold"], row["run_id"], row["job"]) == ("3", run.info.run_id, None)
    # Dagster's name of its implicit job says nothing.
    for number, (job, shown) in enumerate((("evaluate", "evaluate"), ("__ASSET_JOB", "nodule_classifier"))):
        tags = {"dagster_job": job, "luna.asset": "nodule_classifier"}
        client.create_run(experiment, tags=tags, start_time=5000 + number)
        assert mlflow_run_rows(settings, limit=1)[0]["job"] == shown
