"""Runs of training, tuning and evaluation that MLflow has recorded."""

from datetime import datetime
from typing import Any

from luna_pipeline.launchers.installation import EXPERIMENT
from luna_pipeline.settings import Settings


def mlflow_run_rows(settings: Settings, *, limit: int) -> list[dict[str, Any]]:
    """Return the runs of the project's experiment, the newest first; none before the first run.

    Raises:
        TrackerUnavailableError: If the server does not answer.
    """
    from mlflow import MlflowClient

    from luna_pipeline.tracking.mlflow_requests import first_answer

    uri = settings.mlflow_tracking_uri
    path = uri.removeprefix("sqlite:///")
    if path != uri and not settings.local_home.joinpath(path).exists():
        return []
    client = MlflowClient(uri)
    experiment = first_answer(lambda: client.get_experiment_by_name(EXPERIMENT), uri)
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id], max_results=limit, order_by=["attributes.start_time DESC"])
    return [_row(run) for run in runs]


def _row(run: Any) -> dict[str, Any]:
    info, tags = run.info, run.data.tags
    ended, job = info.end_time, tags.get("dagster_job")
    if job is not None and job.startswith("__"):
        # Runs of earlier versions name Dagster's implicit job, which has no meaning.
        job = tags.get("luna.asset")
    return {
        "name": info.run_name,
        "status": info.status.lower(),
        "started_at": f"{datetime.fromtimestamp(info.start_time / 1000):%Y-%m-%d %H:%M}",
        "seconds": round((ended - info.start_time) / 1000, 1) if ended else None,
        "job": job,
        "fold": tags.get("luna.test_fold"),
        "run_id": info.run_id,
    }
