"""The state of a job, from its workflow and its files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.serving.job import Job, JobState
from luna_pipeline.serving.job_files import Arrival, Progress, num_attempts, read_progress

if TYPE_CHECKING:
    from dbos import WorkflowStatus

_STATES: dict[str, JobState] = {"ENQUEUED": "queued", "DELAYED": "queued", "PENDING": "running", "SUCCESS": "done"}
_UNEXPECTED = "The diagnosis must end with a result, got an error of the service. Ask its operator to look at the log."


def state_of(status: "WorkflowStatus | None") -> JobState:
    """Return the state of a job; one whose workflow is missing is about to be enqueued.

    Args:
        status: The workflow, with its output: a result or the reason why there is none.
    """
    if status is None:
        return "queued"
    return "failed" if "reason" in _output(status) else _STATES.get(status.status, "failed")


def job_of(folder: Path, arrival: Arrival, status: "WorkflowStatus | None", *, position: int | None) -> Job:
    """Return a job.

    Args:
        folder: Its folder, of which the name is its id.
        arrival: How it arrived.
        status: Its workflow, with its output; None if it is missing.
        position: Number of jobs that start before it, None unless it is queued.
    """
    state = state_of(status)
    output = _output(status)
    progress = read_progress(folder) if state == "running" else Progress()
    return Job(
        id=folder.name,
        origin=arrival.origin,
        state=state,
        reason=output.get("reason", _UNEXPECTED) if state == "failed" else None,
        position=position,
        stage=progress.stage,
        done=progress.done,
        total=progress.total,
        attempts=num_attempts(folder),
        received_at=arrival.received_at,
        started_at=_seconds(status.dequeued_at if status else None),
        ended_at=_seconds(status.completed_at if status else None),
        models=output.get("models", {}),
        num_nodules=output.get("num_nodules"),
    )


def _output(status: "WorkflowStatus | None") -> dict[str, Any]:
    return status.output if status is not None and isinstance(status.output, dict) else {}


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
