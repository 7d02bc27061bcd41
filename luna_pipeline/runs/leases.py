"""Leases of runs: the process that executes a run renews its lease; run monitoring ends runs whose lease expired.

A lease is a row in Dagster's storage. So no launcher, container or machine has to be queried whether a process lives.
Two rules prevent that two processes write for the same run: a run is declared lost only after its lease was silent for
``LOST_AFTER_SECONDS``, and a process that cannot renew for the shorter ``STOP_AFTER_SECONDS``, or whose run was ended
elsewhere, exits immediately with its child processes.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg

from luna_pipeline.runs.storage_faults import describe_fault, give_up

RENEW_SECONDS = 5.0
STOP_AFTER_SECONDS = 40.0
LOST_AFTER_SECONDS = 60.0
COUNTED_SECONDS = 20.0
"""Upper limit of the time between two looks that counts: in a longer gap the storage or the watcher was down."""


def take(instance: dg.DagsterInstance, run_id: str) -> None:
    """Take or renew the lease of a run."""
    # Readers only compare values for equality, so clocks need not agree.
    instance.daemon_cursor_storage.set_cursor_values({_key(run_id): str(time.time_ns())})


@contextlib.contextmanager
def leased(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Renew the lease of a run, which this process executes, until the end of the block.

    The process exits immediately, with its children, if the lease cannot be renewed or the run was ended elsewhere.
    """
    take(instance, run_id)
    renewal = _Renewal(instance, run_id)
    for loop in (renewal.renew, renewal.watch):
        threading.Thread(target=loop, name=f"{loop.__name__}-lease", daemon=True).start()
    try:
        yield
    finally:
        renewal.over.set()


@dataclass
class _Renewal:
    """Loops of two threads: one renews, the other counts the seconds since, because a storage request may hang."""

    instance: dg.DagsterInstance
    run_id: str
    over: threading.Event = field(default_factory=threading.Event)
    unrenewed_seconds: int = 0
    fault: str = ""

    def renew(self) -> None:
        while not self.over.wait(RENEW_SECONDS):
            try:
                run = self.instance.get_run_by_id(self.run_id)
                if run is None or run.is_finished:
                    self._stop(f"It was ended by others ({run.status.value if run else 'deleted'}).")
                take(self.instance, self.run_id)
                self.unrenewed_seconds = 0
            except Exception as error:
                # Retried until the other thread stops the process.
                self._report(describe_fault(self.instance, error))

    def watch(self) -> None:
        # Counts its own seconds, not the clock's: a process that was suspended as a whole may renew first.
        while not self.over.wait(1):
            self.unrenewed_seconds += 1
            if self.unrenewed_seconds >= STOP_AFTER_SECONDS:
                fault = self.fault or "Is Dagster's storage there?"
                self._stop(f"Its lease was not renewed for {self.unrenewed_seconds} s. {fault}")

    def _report(self, fault: str) -> None:
        if fault != self.fault:
            print(f"Lease of run {self.run_id} not renewed. {fault}", file=sys.stderr, flush=True)
        self.fault = fault

    def _stop(self, reason: str) -> None:
        if not self.over.is_set():
            give_up(self.run_id, reason)


@dataclass
class _Sighting:
    """The last seen value of a lease, for how long it is unchanged, and when it was read."""

    value: str
    looked: float
    silent_seconds: float = 0.0


class LeaseWatch:
    """Measures how long leases are silent, from what this process itself has seen.

    A storage that is back after minutes shows only old leases. Because one look counts at most ``COUNTED_SECONDS``,
    their holders still have time to renew.
    """

    def __init__(self) -> None:
        self._sightings: dict[str, _Sighting] = {}

    def silent_seconds(self, instance: dg.DagsterInstance, run_id: str, *, now: float | None = None) -> float:
        """Read the lease of a run, and return for how many seconds it has not been renewed.

        ``now`` is the time of a monotonic clock in seconds, by default this machine's. The result is 0 for a run that
        never had a lease: it belongs to another code location.
        """
        value = instance.daemon_cursor_storage.get_cursor_values({_key(run_id)}).get(_key(run_id))
        moment = time.monotonic() if now is None else now
        if value is None:
            return 0.0
        seen = self._sightings.get(run_id)
        if seen is None or seen.value != value:
            seen = self._sightings[run_id] = _Sighting(value, looked=moment)
        seen.silent_seconds += min(moment - seen.looked, COUNTED_SECONDS)
        seen.looked = moment
        return seen.silent_seconds


def _key(run_id: str) -> str:
    return f"luna/lease/{run_id}"
