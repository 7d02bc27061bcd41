"""Regular work of a worker beside its diagnoses: what other processes have lost, and what is too old."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from luna_pipeline.serving.database import DIAGNOSE
from luna_pipeline.serving.executors import requeue, requeue_lost, running_of

if TYPE_CHECKING:
    from dbos import DBOSClient

    from luna_pipeline.serving.diagnosing import WorkerContext
    from luna_pipeline.serving.jobs import Jobs

UPKEEP_SECONDS = 15.0
_RETENTION_SECONDS = 3600.0
# No upload takes as long as so many times the limit.
_STAGING_FACTOR = 4
_log = logging.getLogger(__name__)


class Upkeep:
    """The regular work of one worker.

    Args:
        context: The worker's context.
        name: The worker's name.
        jobs: The jobs.
        client: A client of their database.
    """

    def __init__(self, context: "WorkerContext", name: str, jobs: "Jobs", client: "DBOSClient") -> None:
        self._context, self._name, self._jobs, self._client = context, name, jobs, client
        self._stuck: set[str] = set()
        self._next_retention = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work every ``UPKEEP_SECONDS`` until ``stop`` is set."""
        while not stop.is_set():
            self.work()
            stop.wait(UPKEEP_SECONDS)

    def work(self) -> None:
        """Look once; errors, such as of the disk, are logged."""
        parts: list[Callable[[], None]] = [self._jobs.reconcile, self._requeue_lost, self._requeue_stuck]
        if time.monotonic() >= self._next_retention:
            parts += [self._remove_staging, self._jobs.remove_old, self._jobs.remove_ghosts]
            self._next_retention = time.monotonic() + _RETENTION_SECONDS
        for part in parts:
            try:
                part()
            except Exception:
                _log.warning("A part of the upkeep of the jobs failed; it is tried again.", exc_info=True)

    def _requeue_lost(self) -> None:
        if number := requeue_lost(self._client, self._context.folders):
            _log.warning("%d jobs have lost their worker, and are queued again.", number)

    def _remove_staging(self) -> None:
        self._context.folders.remove_old_staging(_STAGING_FACTOR * self._context.config.limits.max_seconds)

    def _requeue_stuck(self) -> None:
        """Queue the diagnoses again that are called running here and are not, twice in a row.

        The end of a workflow whose database does not accept it, such as on a full disk, is not recorded.
        """
        running = running_of(self._client, self._name, kind=DIAGNOSE)
        idle = running.keys() - self._context.running
        if number := requeue(self._client, running, among=idle & self._stuck):
            _log.warning("The ends of %d jobs could not be recorded; they are queued again.", number)
        self._stuck = set(idle)
