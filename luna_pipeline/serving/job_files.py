"""Files of a job beside its input and output: how it arrived, and how far its diagnosis is."""

import contextlib
import json
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from luna_pipeline.core.storage.files import fsync_folder, written_atomically
from luna_pipeline.serving.folders import INPUT
from luna_pipeline.serving.job import Origin, UnknownJobError

_ARRIVAL, _ATTEMPTS, _PROGRESS = "job.json", "attempts.json", "progress.json"
_SECONDS_BETWEEN_WRITES = 1.0
# A missing file, or one that a power cut or the disk has damaged.
_UNREADABLE = (FileNotFoundError, ValueError, TypeError)
ID_DIGITS = 32
"""Hexadecimal digits of a job's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How a CT arrived; kept in ``job.json``.

    Attributes:
        workflow_id: Id of its workflow: the job's id and a random part, so that a CT that was deleted and arrives again
            has another one.
        origin: How it arrived.
        received_at: Seconds since the epoch.
    """

    workflow_id: str
    origin: Origin
    received_at: float

    @classmethod
    def now(cls, job_id: str, origin: Origin) -> "Arrival":
        """Return the arrival of a CT at this moment."""
        return cls(workflow_id=f"{job_id}-{secrets.token_hex(4)}", origin=origin, received_at=time.time())


def job_of_workflow(workflow_id: str) -> str:
    """Return the id of the job that a workflow belongs to."""
    return workflow_id[:ID_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the diagnosis of a job is; kept in ``progress.json``.

    Attributes:
        stage: Stage of the newest attempt; None before its first one.
        done: Finished parts of the stage.
        total: Parts of the stage.
    """

    stage: str | None = None
    done: int = 0
    total: int = 0


def place_input(staged: Path, folder: Path, arrival: Arrival) -> None:
    """Move a complete input into the folder of a new job, as the last step: a job is there once its input is.

    Raises:
        OSError: If the disk is full; ``staged`` is left, and the folder removed.
    """
    # A worker whose job is deleted may leave a file there.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _write_json(folder / _ARRIVAL, asdict(arrival))
        staged.rename(folder / INPUT)
        for changed in (folder, folder.parent, staged.parent):
            fsync_folder(changed)
    except OSError:
        take_back_input(staged, folder)
        raise


def renew_arrival(folder: Path, arrival: Arrival) -> None:
    """Replace a damaged record of the arrival of a job."""
    _write_json(folder / _ARRIVAL, asdict(arrival))


def take_back_input(staged: Path, folder: Path) -> None:
    """Undo ``place_input``."""
    if (folder / INPUT).is_dir():
        (folder / INPUT).rename(staged)
    shutil.rmtree(folder, ignore_errors=True)


def read_arrival(folder: Path) -> Arrival:
    """Return how the CT of a job arrived.

    Raises:
        UnknownJobError: If there is no such job, or its record is damaged.
    """
    if not (folder / INPUT).is_dir():
        raise UnknownJobError(folder.name)
    with contextlib.suppress(*_UNREADABLE):
        return Arrival(**json.loads((folder / _ARRIVAL).read_bytes()))
    raise UnknownJobError(folder.name)


def is_workflow_of(folder: Path, workflow_id: str) -> bool:
    """Return whether a job is there and a workflow is its own, not that of an earlier arrival of the same CT."""
    with contextlib.suppress(UnknownJobError):
        return read_arrival(folder).workflow_id == workflow_id
    return False


def read_progress(folder: Path) -> Progress:
    """Return how far the diagnosis of a job is."""
    with contextlib.suppress(*_UNREADABLE):
        return Progress(**json.loads((folder / _PROGRESS).read_bytes()))
    return Progress()


def num_attempts(folder: Path) -> int:
    """Return the number of times that a worker began a diagnosis, without those that a stop of the service ended."""
    with contextlib.suppress(*_UNREADABLE):
        return int(json.loads((folder / _ATTEMPTS).read_bytes()))
    return 0


def begin_attempt(folder: Path) -> None:
    """Count an attempt before it begins, so that one that ends with its process is counted too."""
    _write_json(folder / _PROGRESS, asdict(Progress()))
    _write_json(folder / _ATTEMPTS, num_attempts(folder) + 1)


def take_back_attempt(folder: Path) -> None:
    """Do not count the newest attempt: the service is stopped, which the CT has no part in."""
    if (number := num_attempts(folder)) > 0:
        _write_json(folder / _ATTEMPTS, number - 1)


class ProgressWriter:
    """Writes the progress of an attempt, at most once a second except for a new stage."""

    def __init__(self, folder: Path, arrival: Arrival) -> None:
        self._folder, self._arrival = folder, arrival
        self._stage: str | None = None
        self._written_at = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Write the stage and the numbers of its finished and of all its parts.

        Raises:
            UnknownJobError: If the job has been deleted meanwhile.
        """
        now = time.monotonic()
        if stage == self._stage and now - self._written_at < _SECONDS_BETWEEN_WRITES:
            return
        if read_arrival(self._folder) != self._arrival:
            raise UnknownJobError(self._folder.name)
        self._stage, self._written_at = stage, now
        progress = Progress(stage=stage, done=done, total=total)
        _write_json(self._folder / _PROGRESS, asdict(progress), is_synced=False)


def _write_json(path: Path, values: object, *, is_synced: bool = True) -> None:
    with written_atomically(path, is_synced=is_synced) as file:
        file.write(json.dumps(values).encode())
