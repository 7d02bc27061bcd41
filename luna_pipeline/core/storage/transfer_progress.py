"""Progress of a transfer: bytes, rate, and the seconds that are left."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """State of a transfer.

    Attributes:
        done_bytes: Bytes that are there, with those of earlier calls.
        total_bytes: Bytes of all files.
        bytes_per_second: Mean rate of this call; 0 before the first byte.
        seconds_left: Time for the rest at this rate; None without a rate.
    """

    done_bytes: int
    total_bytes: int
    bytes_per_second: float
    seconds_left: float | None

    def as_line(self) -> str:
        """Return the state as a line for a log."""
        share = self.done_bytes / self.total_bytes if self.total_bytes else 1.0
        left = "" if self.seconds_left is None else f", {self.seconds_left:.0f} s left"
        done = f"{self.done_bytes / 1e9:.2f} of {self.total_bytes / 1e9:.2f} GB ({share:.0%})"
        return f"{done}, {self.bytes_per_second / 1e6:.1f} MB/s{left}"


class TransferProgress:
    """Counts bytes from several threads, and calls back at intervals."""

    def __init__(
        self,
        total_bytes: int,
        done_bytes: int,
        *,
        on_progress: Callable[[Progress], object],
        every_seconds: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            total_bytes: Bytes of all files.
            done_bytes: Bytes that were there before.
            on_progress: Called at most once an interval, from any thread.
            every_seconds: The interval.
            clock: Returns the time in seconds.
        """
        self._total, self._had, self._new = total_bytes, done_bytes, 0
        self._on_progress, self._every, self._clock = on_progress, every_seconds, clock
        self._started = self._reported = clock()
        self._lock = threading.Lock()

    def add(self, num_bytes: int) -> None:
        """Count bytes that arrived; negative ones were discarded."""
        with self._lock:
            self._new += num_bytes
            now = self._clock()
            if now - self._reported < self._every:
                return
            self._reported = now
            progress = self._state(now)
        self._on_progress(progress)

    def state(self) -> Progress:
        """Return the state now."""
        with self._lock:
            return self._state(self._clock())

    def _state(self, now: float) -> Progress:
        seconds = now - self._started
        rate = max(0, self._new) / seconds if seconds > 0 else 0.0
        done = self._had + self._new
        return Progress(done, self._total, rate, (self._total - done) / rate if rate > 0 else None)
