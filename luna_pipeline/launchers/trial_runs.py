"""The MLflow runs of a study's trials: found again where a trial goes on, and ended for trials that cannot."""

from collections.abc import Iterable, Mapping
from typing import Any

from luna_pipeline.launchers.commands import EXPERIMENT
from luna_pipeline.tracking.mlflow_run import MlflowRun, experiment_id_of, run_id_by_tags

STUDY_TAG, TRIAL_TAG, PARENT_TAG = "luna.study", "luna.trial", "mlflow.parentRunId"


def run_of_trial(tracking_uri: str, tags: Mapping[str, str], *, artifact_location: str | None) -> str | None:
    """Return the MLflow run of a trial whose process was lost before its first checkpoint."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    experiment_id = experiment_id_of(client, EXPERIMENT, artifact_location=artifact_location)
    return run_id_by_tags(client, tags, experiment_id=experiment_id)


def close_trial_runs(run: MlflowRun, states: Mapping[int, str], *, otherwise: str) -> None:
    """End the MLflow runs of a study's trials with what became of them: a trial that Ray ends cannot.

    Args:
        run: The study's run.
        states: MLflow's status of each trial that is over, by number.
        otherwise: Status of the others.
    """
    experiment_id = run.client.get_run(run.run_id).info.experiment_id
    found = run.client.search_runs(
        [experiment_id], filter_string=f"tags.`{STUDY_TAG}` = '{run.run_id}'", max_results=50_000
    )
    for trial in _of_trials(found):
        status = states.get(int(trial.data.tags[TRIAL_TAG]), otherwise)
        if trial.info.status != status:
            run.client.set_terminated(trial.info.run_id, status)


def _of_trials(runs: Iterable[Any]) -> Iterable[Any]:
    return (run for run in runs if TRIAL_TAG in run.data.tags)
