"""A study in MLflow: one run, with a nested run for each trial, all of them ended with what became of them."""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.launchers.installation import EXPERIMENT
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_handlers import INTENDED_USE
from luna_pipeline.tracking.mlflow_run import FAILED, FINISHED, KILLED, MlflowRun, mlflow_run
from luna_pipeline.tuning import records
from luna_pipeline.tuning.study import StudyConfig
from luna_pipeline.tuning.study_folder import StudyFolder

if TYPE_CHECKING:
    from luna_pipeline.tuning.request import TunedParameters

from collections.abc import Iterable
from typing import Any

from luna_pipeline.tracking.mlflow_run import experiment_id_of, run_id_by_tags


@contextlib.contextmanager
def study_run(
    settings: Settings, place: StudyFolder, *, uses_mlflow: bool, tags: Mapping[str, str]
) -> Iterator[MlflowRun | None]:
    """Open the study's run, the same one where the study goes on; its trials' runs end with it.

    Args:
        settings: Where MLflow is.
        place: The study's folder.
        uses_mlflow: Whether there are runs at all.
        tags: More tags of the run.

    Yields:
        The run; None where there is none.
    """
    if not uses_mlflow:
        yield None
        return
    note = place.note()
    with mlflow_run(
        settings.mlflow_tracking_uri,
        experiment=EXPERIMENT,
        artifact_location=settings.artifact_location,
        run_name=f"{place.title} study",
        run_id=note.mlflow_run_id,
        system_metrics_seconds=None,
        tags={**tags, "intended_use": INTENDED_USE, "luna.study_folder": str(place.folder)},
    ) as run:
        place.keep(replace(note, mlflow_run_id=run.run_id))
        try:
            yield run
        finally:
            states = {
                trial: FAILED if end.state == records.FAILED else FINISHED
                for trial, end in records.TrialRecords(place.folder).ended().items()
            }
            close_trial_runs(run, states, otherwise=KILLED)


def log_study(run: MlflowRun, study: StudyConfig, tuned: "TunedParameters") -> None:
    """Keep what a study was and came to in its run."""
    from mlflow.entities import Metric, Param

    plain = {name: value for name, value in study.to_dict().items() if name not in {"base", "space"}}
    params = [Param(name, str(value)) for name, value in plain.items()]
    params += [Param(f"space.{place}", json.dumps(value)) for place, value in study.space.to_dict().items()]
    best = tuned.table["score"].max()
    values = {f"validation/best_{study.metric}": best, "num_trials": len(tuned.table)}
    if tuned.comparison is not None:
        values |= {"test/tuned": tuned.comparison.tuned, "test/untuned": tuned.comparison.untuned}
    now_ms = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now_ms, 0) for name, value in values.items()]
    run.client.log_batch(run.run_id, params=params, metrics=metrics)
    run.client.set_tag(run.run_id, "mlflow.note.content", tuned.conclusion)
    run.client.log_text(run.run_id, tuned.table.to_csv(index=False), "trials.csv")
    run.client.log_dict(run.run_id, tuned.config.to_dict(), "best.json")
    with tempfile.TemporaryDirectory(prefix="luna-study-") as folder:
        for name, png in tuned.pictures.items():
            (Path(folder) / name).write_bytes(png)
        run.client.log_artifacts(run.run_id, folder)


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
