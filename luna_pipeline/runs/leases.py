"""Leases of runs: whoever works on a run renews its lease, and whoever watches runs ends one whose lease ran out.

A lease is a row in Dagster's own storage, renewed by the process that executes the run, wherever that is: no launcher,
container or machine has to be asked whether the process lives. Two promises hold together: a run is declared lost only
after nothing was heard of it for ``LOST_AFTER_SECONDS``, and a process that could not renew for the shorter
``STOP_AFTER_SECONDS``, or whose run was ended by others, ends at once, with its children. So nobody goes on writing
for a run that another has taken over.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg

RENEW_SECONDS = 5.0
STOP_AFTER_SECONDS = 40.0
LOST_AFTER_SECONDS = 60.0
COUNTED_SECONDS = 20.0
"""So much of the time between two looks counts at most: in a longer one the storage was gone, or the watcher itself."""


def take(instance: dg.DagsterInstance, run_id: str) -> None:
    """Take or renew the lease of a run."""
    # The clock is not read by others: that the value changes is the sign of life.
    instance.daemon_cursor_storage.set_cursor_values({_key(run_id): str(time.time_ns())})


@contextlib.contextmanager
def leased(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Renew the lease of a run, which this process executes, until the end of the block.

    The process ends at once, with its children, when the lease cannot be renewed any more or when others have ended
    the run meanwhile.
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
    """One thread renews; another counts the seconds since, because a request to a lost storage may never return."""

    instance: dg.DagsterInstance
    run_id: str
    over: threading.Event = field(default_factory=threading.Event)
    unrenewed_seconds: int = 0

    def renew(self) -> None:
        while not self.over.wait(RENEW_SECONDS):
            try:
                run = self.instance.get_run_by_id(self.run_id)
                if run is None or run.is_finished:
                    self._stop(f"it was ended by others ({run.status.value if run else 'deleted'})")
                take(self.instance, self.run_id)
                self.unrenewed_seconds = 0
            except Exception as error:
                # Tried again until the other thread's patience ends; what is in the way is said now.
                print(f"Lease of run {self.run_id} not renewed: {type(error).__name__}: {error}", file=sys.stderr)

    def watch(self) -> None:
        # Its own seconds are counted, not the clock's: a process that stood still as a whole may renew first.
        while not self.over.wait(1):
            self.unrenewed_seconds += 1
            if self.unrenewed_seconds >= STOP_AFTER_SECONDS:
                self._stop(f"its lease was not renewed for {self.unrenewed_seconds} s (is Dagster's storage there?)")

    def _stop(self, reason: str) -> None:
        if not self.over.is_set():
            print(f"Run {self.run_id} is given up by process {os.getpid()}: {reason}.", file=sys.stderr, flush=True)
            end_at_once()


def end_at_once() -> None:
    """End this process and its descendants now: everything that is kept is written whole or not at all."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)


@dataclass
class _Sighting:
    """A lease as the watcher found it: for how long it is unchanged, and when it was looked at last."""

    value: str
    looked: float
    silent_seconds: float = 0.0


class LeaseWatch:
    """Tells of runs whose lease ran out, by what this process itself has seen, look after look.

    Clocks of other machines do not matter. A storage that comes back after minutes finds every lease old, and its
    holders still have time to renew: one look never counts for more than ``COUNTED_SECONDS``.
    """

    def __init__(self) -> None:
        self._sightings: dict[str, _Sighting] = {}

    def silent_seconds(self, instance: dg.DagsterInstance, run_id: str, *, now: float | None = None) -> float:
        """Look at the lease of a run, and return for how long it has not been renewed.

        Args:
            instance: Where the run is kept.
            run_id: The run.
            now: Seconds of a clock that only goes forward; None for this machine's.

        Returns:
            Seconds since the value was first seen; 0 for a run that never had a lease: it is not ours.
        """
        value = instance.daemon_cursor_storage.get_cursor_values({_key(run_id)}).get(_key(run_id))
        moment = time.monotonic() if now is None else now
        seen = self._sightings.get(run_id)
        if value is None:
            return 0.0
        if seen is None or seen.value != value:
            seen = self._sightings[run_id] = _Sighting(value, looked=moment)
        seen.silent_seconds += min(moment - seen.looked, COUNTED_SECONDS)
        seen.looked = moment
        return seen.silent_seconds


def _key(run_id: str) -> str:
    return f"luna/lease/{run_id}"
