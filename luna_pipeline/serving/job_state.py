"""The state of a job, from its workflow and its files."""

from typing import TYPE_CHECKING

from luna_pipeline.serving.job import DiagnosisFailedError, Job, JobState
from luna_pipeline.serving.job_files import Arrival, Progress

if TYPE_CHECKING:
    from dbos import WorkflowStatus

_STATES: dict[str, JobState] = {"ENQUEUED": "queued", "DELAYED": "queued", "PENDING": "running", "SUCCESS": "done"}
_UNEXPECTED = "The diagnosis must end with a result, got an error of the service. Ask its operator to look at the log."


def state_of(status: "WorkflowStatus | None") -> JobState:
    """Return the state of a job; one whose workflow is missing is about to be enqueued."""
    return "queued" if status is None else _STATES.get(status.status, "failed")


def job_of(
    job_id: str, arrival: Arrival, progress: Progress, status: "WorkflowStatus | None", *, position: int | None
) -> Job:
    """Return a job.

    Args:
        job_id: Its id.
        arrival: How it arrived.
        progress: How far its diagnosis is.
        status: Its workflow, with its output; None if it is missing.
        position: Number of jobs that start before it, None unless it is queued.
    """
    state = state_of(status)
    output = status.output if status is not None and isinstance(status.output, dict) else {}
    is_running = state == "running"
    return Job(
        id=job_id,
        origin=arrival.origin,
        state=state,
        reason=_reason(status) if state == "failed" else None,
        position=position,
        stage=progress.stage if is_running else None,
        done=progress.done if is_running else 0,
        total=progress.total if is_running else 0,
        attempts=progress.attempts,
        received_at=arrival.received_at,
        started_at=_seconds(status.dequeued_at if status else None),
        ended_at=_seconds(status.completed_at if status else None),
        models=output.get("models", {}),
        num_nodules=output.get("num_nodules"),
    )


def _reason(status: "WorkflowStatus | None") -> str:
    error = None if status is None else status.error
    # Only these texts are written for readers.
    return str(error) if getattr(error, "name", None) == DiagnosisFailedError.__name__ else _UNEXPECTED


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
