"""MLflow runs of a study: one parent run, and a nested run for each trial."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from luna_pipeline.launchers.installation import EXPERIMENT, open_mlflow_run
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_figures import log_png
from luna_pipeline.tracking.mlflow_handlers import INTENDED_USE
from luna_pipeline.tracking.mlflow_run import (
    FAILED,
    FINISHED,
    KILLED,
    NOTE_TAG,
    MlflowRun,
    experiment_id_of,
    run_id_by_tags,
)
from luna_pipeline.tuning import records
from luna_pipeline.tuning.study import StudyConfig
from luna_pipeline.tuning.study_folder import StudyFolder

if TYPE_CHECKING:
    from luna_pipeline.tuning.request import TunedParameters

STUDY_TAG, TRIAL_TAG, PARENT_TAG = "luna.study", "luna.trial", "mlflow.parentRunId"


@contextlib.contextmanager
def study_run(
    settings: Settings, place: StudyFolder, *, uses_mlflow: bool, tags: Mapping[str, str]
) -> Iterator[MlflowRun | None]:
    """Open the study's run, or reopen it for a resumed study; on exit the runs of its trials are ended as well.

    Yields:
        The run; None without MLflow.
    """
    if not uses_mlflow:
        yield None
        return
    note = place.note()
    with open_mlflow_run(
        settings,
        run_name=f"{place.title} study",
        run_id=note.mlflow_run_id,
        system_metrics_seconds=None,
        tags={**tags, "intended_use": INTENDED_USE, "luna.study_folder": str(place.folder)},
    ) as run:
        place.keep(replace(note, mlflow_run_id=run.run_id))
        try:
            yield run
        finally:
            _end_trial_runs(run, place)


def log_study(run: MlflowRun, study: StudyConfig, tuned: "TunedParameters") -> None:
    """Log the configuration and the results of a study in its run."""
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
    note = "\n\n".join(filter(None, [tuned.conclusion, run.note]))
    run.client.set_tag(run.run_id, NOTE_TAG, note)
    run.client.log_text(run.run_id, tuned.table.to_csv(index=False), "trials.csv")
    run.client.log_dict(run.run_id, tuned.config.to_dict(), "best.json")
    for name, png in tuned.pictures.items():
        log_png(run, png, name)


def run_of_trial(tracking_uri: str, tags: Mapping[str, str], *, artifact_location: str | None) -> str | None:
    """Return the MLflow run of a trial whose process died before its first checkpoint."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    experiment_id = experiment_id_of(client, EXPERIMENT, artifact_location=artifact_location)
    return run_id_by_tags(client, tags, experiment_id=experiment_id)


def _end_trial_runs(run: MlflowRun, place: StudyFolder) -> None:
    """Set the status of the trials' runs: a trial that Ray stops cannot do so; one that has not ended was killed."""
    ended = records.TrialRecords(place.folder).ended()
    experiment_id = run.client.get_run(run.run_id).info.experiment_id
    of_study = f"tags.`{STUDY_TAG}` = '{run.run_id}'"
    for trial in run.client.search_runs([experiment_id], filter_string=of_study, max_results=50_000):
        if TRIAL_TAG not in trial.data.tags:
            continue
        end = ended.get(int(trial.data.tags[TRIAL_TAG]))
        status = KILLED if end is None else FAILED if end.state == records.FAILED else FINISHED
        if trial.info.status != status:
            run.client.set_terminated(trial.info.run_id, status)
