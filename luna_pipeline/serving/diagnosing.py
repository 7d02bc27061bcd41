"""The diagnosis of a job, from its input folder to its output folder."""

import contextlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luna_pipeline.core.diagnosis.recipes import diagnosis_recipe
from luna_pipeline.core.diagnosis.result import Diagnosis
from luna_pipeline.launchers.diagnosis.diagnose import DiagnosisRequest, diagnose_ct
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import INPUT, OUTPUT, ServiceFolders
from luna_pipeline.serving.job import UnknownJobError
from luna_pipeline.serving.job_files import ProgressWriter, begin_attempt, num_attempts, read_arrival, read_progress
from luna_pipeline.serving.loaded_models import LOOK_SECONDS, LoadedModels, shown_reason
from luna_pipeline.serving.reasons import reason_of
from luna_pipeline.settings import Settings

_LONGEST_PAUSE_SECONDS = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What a worker needs for its jobs.

    Attributes:
        settings: Checkpoints and MLflow.
        config: The service's configuration.
        folders: The service's folders.
        models: Models that stay in memory between jobs.
        running: Ids of the workflows of diagnoses that run in this process.
        diagnosing: Those of them that are in the step of the diagnosis.
    """

    settings: Settings
    config: ServiceConfig
    folders: ServiceFolders
    models: LoadedModels
    running: set[str] = field(default_factory=set)
    diagnosing: set[str] = field(default_factory=set)


def wait_for_models(context: WorkerContext, job_id: str) -> None:
    """Wait until the models can be loaded, such as from MLflow that is away; return early if the job is gone.

    No attempt is counted meanwhile: a CT has no part in it.
    """
    folder, pause = context.folders.job(job_id), LOOK_SECONDS
    # A full disk is a reason of the attempt that follows.
    with contextlib.suppress(UnknownJobError, OSError):
        on_progress = ProgressWriter(folder, read_arrival(folder))
        while (reason := _missing_models(context)) is not None:
            on_progress("models", 0, 1)
            _log.warning("Job %s waits for the models, the next look is in %g s: %s", job_id, pause, reason)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _missing_models(context: WorkerContext) -> str | None:
    """Return why the models cannot be loaded; None if they are."""
    try:
        context.models.versions()
    except Exception as error:
        return shown_reason(error)
    return None


def diagnose_job(context: WorkerContext, job_id: str) -> dict[str, Any]:
    """Diagnose the CT of a job.

    Returns:
        ``models`` (name and version by role) and ``num_nodules`` of the result, or the ``reason`` why there is none.
        It is plain JSON.
    """
    folder = context.folders.job(job_id)
    try:
        arrival = read_arrival(folder)
        if (number := num_attempts(folder)) >= context.config.max_attempts:
            return {"reason": _lost_text(number, read_progress(folder).stage)}
        begin_attempt(folder)
        on_progress = ProgressWriter(folder, arrival)
        diagnosis = diagnose_ct(
            context.settings, _request(context, folder), models=context.models.for_series, on_progress=on_progress
        )
    except UnknownJobError as error:
        return {"reason": str(error)}
    except Exception as error:
        return {"reason": reason_of(error, job_id).replace(f"{folder}/", "")}
    return _summary(diagnosis)


def _request(context: WorkerContext, folder: Path) -> DiagnosisRequest:
    config = context.config
    return DiagnosisRequest(
        ct=folder / INPUT,
        out=folder / OUTPUT,
        recipe=diagnosis_recipe(config.recipe),
        device=config.device,
        patient_key=context.settings.patient_key() if config.deidentifies else None,
    )


def _summary(diagnosis: Diagnosis) -> dict[str, Any]:
    findings = [nodule for nodule in diagnosis.nodules if nodule.probability >= diagnosis.threshold]
    models = {model.role: f"{model.name} {model.version}" for model in diagnosis.models}
    return {"models": models, "num_nodules": len(findings)}


def _lost_text(attempts: int, stage: str | None) -> str:
    where = f"in the stage {stage}" if stage else "before its first stage"
    return (
        f"A diagnosis must end in one of {attempts} attempts, got {attempts} workers that ended during it (the newest "
        f"{where}). Give the workers more memory, or delete the diagnosis and send a smaller CT."
    )
