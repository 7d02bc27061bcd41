"""Measure procedures alternately, A B C A B C, so that variations of the machine affect all of them."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

OnRun = Callable[[str], object]


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Way:
    """A procedure to be timed.

    Attributes:
        name: Word in the results.
        run: The timed function.
        reset: Removes the files of a run; called before and after each run, not timed.
    """

    name: str
    run: Callable[[], Any]
    reset: Callable[[], Any] = nothing


@dataclass(frozen=True)
class Timing:
    """Seconds of each run of a procedure, in order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return median, spread and all runs in milliseconds."""
        milliseconds = [round(1000 * value, 3) for value in self.seconds]
        return {
            "median_ms": statistics.median(milliseconds),
            "min_ms": min(milliseconds),
            "max_ms": max(milliseconds),
            "runs_ms": milliseconds,
        }


def settle() -> None:
    """Let the kernel finish pending writes and Python its garbage collection."""
    gc.collect()
    os.sync()


def measure(
    ways: Sequence[Way], *, repeats: int, on_run: OnRun | None = None, before: Callable[[], object] = settle
) -> dict[str, Timing]:
    """Run each procedure once to warm up, then all of them alternately.

    Args:
        ways: The procedures, in their order.
        repeats: Number of timed runs of each.
        on_run: Called with the name of a procedure before each of its runs.
        before: Called after the reset and right before the timing.

    Returns:
        The timings by name.
    """
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    for turn in range(repeats + 1):
        for way in ways:
            if on_run is not None:
                on_run(way.name)
            taken = time_once(way, before=before)
            if turn:
                seconds[way.name].append(taken)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def time_once(way: Way, *, before: Callable[[], object] = settle) -> float:
    """Return the seconds of one run; its files are removed."""
    way.reset()
    before()
    started = time.perf_counter()
    way.run()
    taken = time.perf_counter() - started
    way.reset()
    return taken
