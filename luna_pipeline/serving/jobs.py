"""Diagnoses that the service has accepted: each ends done or failed with a reason, exactly once.

A job is a folder with the CT's files and a workflow of DBOS. The folder comes first and is flushed to the disk; a
folder whose workflow is missing after a crash gets it from ``reconcile``.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.launchers.diagnosis.incoming import content_of
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.database import (
    APPLICATION_VERSION,
    DIAGNOSE,
    DIAGNOSES,
    database_errors,
    make_tables,
    new_client,
)
from luna_pipeline.serving.delivery_files import deliveries_of
from luna_pipeline.serving.folders import INPUT, ServiceFolders, is_job_id
from luna_pipeline.serving.job import Job, JobState, JobsUnavailableError, Origin, QueueFullError, UnknownJobError
from luna_pipeline.serving.job_files import (
    ID_DIGITS,
    Arrival,
    is_workflow_of,
    job_of_workflow,
    place_input,
    read_arrival,
    renew_arrival,
    take_back_input,
)
from luna_pipeline.serving.job_state import job_of, state_of
from luna_pipeline.serving.retries import retry_after

if TYPE_CHECKING:
    from dbos import WorkflowStatus

_DELETED = ".deleted-"
# Longer than the removal of a job's files.
_GHOST_MINUTES = 10.0
# The time of the next diagnosis is taken from so many.
_NUM_LAST = 10
_log = logging.getLogger(__name__)


class Jobs:
    """Accepts CTs and answers what became of them; runs nothing itself. Its methods may be called by several threads.

    Raises:
        JobsUnavailableError: By each method, if the jobs' database does not answer.
    """

    def __init__(self, folders: ServiceFolders, config: ServiceConfig) -> None:
        self._folders, self._config = folders, config
        self._enqueued: set[str] = set()
        with database_errors():
            make_tables(folders, config)
            self._client = new_client(folders, config)

    def submit(self, staged: Path, *, origin: Origin) -> tuple[Job, bool]:
        """Accept a CT and return its job, and whether it is new; the same files again are the same job.

        A job that failed is made again: its fault may have been one of the disk or of the service.

        Args:
            staged: Folder with all of the CT's files, flushed to the disk, on the disk of the service's folder. It is
                moved, or removed if the job is there already.
            origin: How the CT arrived.

        Raises:
            QueueFullError: If too many jobs are waiting; ``staged`` is left.
            ValueError: If the folder holds no file.
            OSError: If the disk is full; ``staged`` is left.
        """
        job_id = _id_of(staged)
        folder = self._folders.job(job_id)
        with self._locked():
            is_kept = self._has(job_id)
            has_failed = is_kept and self.get(job_id).state == "failed"
            is_new = has_failed or not is_kept
            if is_new:
                self.check_room()
                failed = self._put_aside(folder) if has_failed else None
                place_input(staged, folder, Arrival.now(job_id, origin))
            try:
                self._enqueue(job_id)
            except (JobsUnavailableError, OSError):
                if is_new:
                    take_back_input(staged, folder)
                raise
        if not is_new:
            shutil.rmtree(staged)
        elif failed is not None:
            self._remove(failed)
        return self.get(job_id), is_new

    def check_room(self) -> None:
        """Check that the queue has a free place.

        Raises:
            QueueFullError: If it has none.
        """
        num_waiting = len(self._waiting())
        if num_waiting >= self._config.max_queued:
            raise QueueFullError(length=num_waiting, retry_after_seconds=self._seconds_to_place())

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            UnknownJobError: If there is no such job.
        """
        folder = self._folder(job_id)
        arrival = read_arrival(folder)
        with database_errors():
            found = self._client.list_workflows(workflow_ids=[arrival.workflow_id], load_input=False)
        status = found[0] if found else None
        return self._job(folder, arrival, status, self._waiting() if state_of(status) == "queued" else ())

    def list(self, limit: int = 100) -> list[Job]:
        """Return the newest jobs, the newest first."""
        with database_errors():
            found = self._client.list_workflows(name=DIAGNOSE, limit=limit, sort_desc=True, load_input=False)
        waiting, jobs = self._waiting(), []
        for status in found:
            folder = self._folders.job(job_of_workflow(status.workflow_id))
            with contextlib.suppress(UnknownJobError):
                arrival = read_arrival(folder)
                if arrival.workflow_id == status.workflow_id:
                    jobs.append(self._job(folder, arrival, status, waiting))
        return jobs

    def delete(self, job_id: str) -> None:
        """End a job and remove its files; the same files can be submitted again afterwards.

        Raises:
            UnknownJobError: If there is no such job.
        """
        with self._locked():
            gone = self._put_aside(self._folder(job_id))
        self._remove(gone)

    def check_database(self) -> None:
        """Read one row; the cost does not grow with the number of jobs."""
        with database_errors():
            self._client.list_workflows(name=DIAGNOSE, limit=1, load_input=False, load_output=False)

    def counts(self) -> Mapping[JobState, int]:
        """Return the number of jobs by state."""
        counts: dict[JobState, int] = dict.fromkeys(("queued", "running", "done", "failed"), 0)
        with database_errors():
            found = self._client.list_workflows(name=DIAGNOSE, load_input=False)
        for status in found:
            counts[state_of(status)] += 1
        return counts

    def reconcile(self) -> None:
        """Finish what a killed process began: enqueue accepted CTs, remove what was deleted or is not complete."""
        if not self._folders.jobs.is_dir():
            return
        for folder in sorted(self._folders.jobs.iterdir()):
            with _others_go_on(folder.name):
                if folder.name.startswith(_DELETED):
                    self._remove(folder)
                elif is_job_id(folder.name) and not self._is_enqueued(folder):
                    self._repair(folder)

    def remove_old(self) -> None:
        """Delete the jobs that ended more than ``keep_days`` ago, with their files."""
        if not self._config.keep_days:
            return
        for status in self._ended_before(timedelta(days=self._config.keep_days)):
            job_id = job_of_workflow(status.workflow_id)
            with _others_go_on(job_id):
                if self._has_job(status):
                    self.delete(job_id)

    def remove_ghosts(self) -> None:
        """Delete the ended workflows that have no job.

        Such as one whose enqueueing was called failed, because the connection to the database broke too early.
        """
        for status in self._ended_before(timedelta(minutes=_GHOST_MINUTES)):
            with self._locked(), database_errors():
                if not self._has_job(status):
                    self._client.delete_workflow(status.workflow_id, delete_children=True)

    def close(self) -> None:
        """Close the connections to the database."""
        self._client.destroy()

    def _job(self, folder: Path, arrival: Arrival, status: "WorkflowStatus | None", waiting: tuple[str, ...]) -> Job:
        position = waiting.index(arrival.workflow_id) if arrival.workflow_id in waiting else None
        job = job_of(folder, arrival, status, position=position)
        return replace(job, deliveries=deliveries_of(folder, self._config.peers))

    def _folder(self, job_id: str) -> Path:
        try:
            return self._folders.job(job_id)
        except ValueError:
            raise UnknownJobError(job_id) from None

    def _ended_before(self, age: timedelta) -> "Sequence[WorkflowStatus]":
        """Return the workflows that ended at least this long ago."""
        before = (datetime.now(UTC) - age).isoformat()
        with database_errors():
            return self._client.list_workflows(
                name=DIAGNOSE, completed_before=before, load_input=False, load_output=False
            )

    def _has_job(self, status: "WorkflowStatus") -> bool:
        return is_workflow_of(self._folders.job(job_of_workflow(status.workflow_id)), status.workflow_id)

    def _repair(self, folder: Path) -> None:
        """Enqueue a job, or remove its folder if its CT is not complete."""
        with self._locked():
            if not (folder / INPUT).is_dir():
                shutil.rmtree(folder, ignore_errors=True)
                return
            if not self._has(folder.name):
                _log.warning("Job %s: its record is damaged. It is diagnosed again.", folder.name)
                renew_arrival(folder, Arrival.now(folder.name, "http"))
            self._enqueue(folder.name)

    def _has(self, job_id: str) -> bool:
        try:
            read_arrival(self._folder(job_id))
        except UnknownJobError:
            return False
        return True

    def _waiting(self) -> tuple[str, ...]:
        """Return the ids of the waiting workflows in the order in which they start."""
        with database_errors():
            found = self._client.list_workflows(
                status="ENQUEUED", queue_name=DIAGNOSES, load_input=False, load_output=False
            )
        return tuple(status.workflow_id for status in found)

    def _seconds_to_place(self) -> int:
        """Return the seconds until a worker takes the next job from the queue, by the time that the last ones took."""
        with database_errors():
            ended = self._client.list_workflows(
                name=DIAGNOSE, status="SUCCESS", limit=_NUM_LAST, sort_desc=True, load_input=False, load_output=False
            )
        took = [each.completed_at - each.dequeued_at for each in ended if each.completed_at and each.dequeued_at]
        return retry_after([milliseconds / 1000 for milliseconds in took], num_workers=self._config.num_workers)

    def _enqueue(self, job_id: str) -> None:
        """Enqueue the workflow of a job, unless it is there."""
        workflow_id = read_arrival(self._folders.job(job_id)).workflow_id
        with database_errors():
            self._client.enqueue(
                {
                    "queue_name": DIAGNOSES,
                    "workflow_name": DIAGNOSE,
                    "workflow_id": workflow_id,
                    "app_version": APPLICATION_VERSION,
                },
                job_id,
            )
        self._enqueued.add(workflow_id)

    def _is_enqueued(self, folder: Path) -> bool:
        with contextlib.suppress(UnknownJobError):
            return read_arrival(folder).workflow_id in self._enqueued
        return False

    def _put_aside(self, folder: Path) -> Path:
        """Rename the folder of a job: without it the job is gone, also for the worker that runs it."""
        return folder.rename(folder.with_name(f"{_DELETED}{read_arrival(folder).workflow_id}"))

    def _remove(self, gone: Path) -> None:
        workflow_id = gone.name.removeprefix(_DELETED)
        with self._locked(), database_errors():
            if self._client.list_workflows(workflow_ids=[workflow_id], load_input=False, load_output=False):
                self._client.cancel_workflow(workflow_id, cancel_children=True)
                self._client.delete_workflow(workflow_id, delete_children=True)
        shutil.rmtree(gone, ignore_errors=True)

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        """Exclude other processes and threads from changes to the folder of jobs."""
        return locked(self._folders.root / "jobs.lock", waits=True)


@contextlib.contextmanager
def _others_go_on(name: str) -> Iterator[None]:
    """Log an error of one job, so that it stops no work on others; ignore that it was deleted meanwhile."""
    try:
        yield
    except UnknownJobError:
        pass
    except (OSError, ValueError):
        _log.warning("Job %s: its upkeep failed; it is tried again.", name, exc_info=True)


def _id_of(staged: Path) -> str:
    files = [path for path in sorted(staged.rglob("*")) if path.is_file()]
    if not files:
        raise ValueError("A CT must have at least one file, got an empty upload. Send the CT's files.")
    return content_of(files)[:ID_DIGITS]
