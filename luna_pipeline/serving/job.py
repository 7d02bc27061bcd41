"""A diagnosis that the service has accepted, and what becomes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Origin = Literal["http", "dicom"]
JobState = Literal["queued", "running", "done", "failed"]
DeliveryState = Literal["waiting", "sent", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Transfer of the DICOM results of a job to one peer.

    Attributes:
        peer: Name of the peer in the configuration.
        state: ``waiting`` until all objects are accepted; ``failed`` once no further attempt is made.
        attempts: Number of attempts so far.
        reason: Why the newest attempt failed, a sentence without anything of a patient; None if it did not.
    """

    peer: str
    state: DeliveryState
    attempts: int
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One accepted CT.

    Attributes:
        id: 32 hexadecimal digits: a digest of the CT's files, so that the same files are one job.
        origin: How it arrived first.
        state: ``done`` and ``failed`` are final.
        reason: Why it failed, a sentence without anything of a patient; None if it did not.
        position: Number of jobs that start before it, 0 for the next one; None unless it is queued.
        stage: Stage of a running diagnosis, see ``core.diagnosis.stages``.
        done: Finished parts of the stage.
        total: Parts of the stage.
        attempts: Number of times that a worker began it.
        received_at: Seconds since the epoch.
        started_at: Seconds since the epoch; None before a worker has begun.
        ended_at: Seconds since the epoch; None before it is final.
        models: Name and version of each model of the result by role; empty before it is done.
        num_nodules: Number of findings at or above the threshold; None before it is done.
        deliveries: Transfers of its DICOM results, in the order of the configuration.
    """

    id: str
    origin: Origin
    state: JobState
    reason: str | None = None
    position: int | None = None
    stage: str | None = None
    done: int = 0
    total: int = 0
    attempts: int = 0
    received_at: float
    started_at: float | None = None
    ended_at: float | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    num_nodules: int | None = None
    deliveries: tuple[Delivery, ...] = ()


class QueueFullError(Exception):
    """The queue has no place for another job.

    Attributes:
        retry_after_seconds: When a place is expected to be free.
    """

    def __init__(self, *, length: int, retry_after_seconds: int) -> None:
        super().__init__(
            f"The queue must have a free place, got {length} waiting jobs. Try again in {retry_after_seconds} s."
        )
        self.retry_after_seconds = retry_after_seconds


class UnknownJobError(KeyError):
    """There is no such job, or it was deleted."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)

    def __str__(self) -> str:
        return "The id must be one of a diagnosis that is kept here, got another one. It may have been deleted."


class JobsUnavailableError(Exception):
    """The jobs' database does not answer, or cannot be written to."""

    def __str__(self) -> str:
        return "The jobs' database must answer, got an error. Try again in a minute."
