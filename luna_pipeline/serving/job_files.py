"""Files of a job beside its input and output: how it arrived, and how far its diagnosis is."""

import contextlib
import errno
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from luna_pipeline.core.storage.files import written_atomically
from luna_pipeline.serving.folders import INPUT
from luna_pipeline.serving.job import Origin, UnknownJobError

_ARRIVAL, _PROGRESS = "job.json", "progress.json"
_SECONDS_BETWEEN_WRITES = 1.0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the diagnosis of a job is; kept in ``progress.json``.

    Attributes:
        attempts: Number of times that a worker began it, without those that a stop of the service ended.
        stage: Stage of the newest attempt; None before its first one.
        done: Finished parts of the stage.
        total: Parts of the stage.
    """

    attempts: int = 0
    stage: str | None = None
    done: int = 0
    total: int = 0


def place_input(staged: Path, folder: Path, arrival: Arrival) -> None:
    """Move a complete input into the folder of a new job, as the last step: a job is there once its input is.

    Raises:
        FileExistsError: If the job is there already; ``staged`` is left.
    """
    if (folder / INPUT).exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
    _write_json(folder / _ARRIVAL, asdict(arrival))
    staged.rename(folder / INPUT)
    for changed in (folder, folder.parent, staged.parent):
        _flush(changed)


def read_arrival(folder: Path) -> Arrival:
    """Return how the CT of a job arrived.

    Raises:
        UnknownJobError: If there is no such job.
    """
    if not (folder / INPUT).is_dir():
        raise UnknownJobError(folder.name)
    with contextlib.suppress(FileNotFoundError):
        return Arrival(**json.loads((folder / _ARRIVAL).read_bytes()))
    raise UnknownJobError(folder.name)


def read_progress(folder: Path) -> Progress:
    """Return how far the diagnosis of a job is."""
    with contextlib.suppress(FileNotFoundError):
        return Progress(**json.loads((folder / _PROGRESS).read_bytes()))
    return Progress()


def begin_attempt(folder: Path) -> None:
    """Count an attempt before it begins, so that one that ends with its process is counted too."""
    _write_json(folder / _PROGRESS, asdict(Progress(attempts=read_progress(folder).attempts + 1)))


def take_back_attempt(folder: Path) -> None:
    """Do not count the newest attempt: the service is stopped, which the CT has no part in."""
    progress = read_progress(folder)
    _write_json(folder / _PROGRESS, asdict(replace(progress, attempts=max(0, progress.attempts - 1))))


class ProgressWriter:
    """Writes the progress of an attempt, at most once a second except for a new stage."""

    def __init__(self, folder: Path, arrival: Arrival) -> None:
        self._folder, self._arrival = folder, arrival
        self._progress, self._written_at = read_progress(folder), 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Write the stage and the numbers of its finished and of all its parts.

        Raises:
            UnknownJobError: If the job has been deleted meanwhile.
        """
        now = time.monotonic()
        if stage == self._progress.stage and now - self._written_at < _SECONDS_BETWEEN_WRITES:
            return
        if read_arrival(self._folder) != self._arrival:
            raise UnknownJobError(self._folder.name)
        self._progress = replace(self._progress, stage=stage, done=done, total=total)
        self._written_at = now
        _write_json(self._folder / _PROGRESS, asdict(self._progress), is_synced=False)


def _write_json(path: Path, values: dict[str, object], *, is_synced: bool = True) -> None:
    with written_atomically(path, is_synced=is_synced) as file:
        file.write(json.dumps(values).encode())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
