"""Starts the workers, and starts them again when they end."""

import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass

from luna_pipeline.serving.config import ServiceConfig

_STOP_SECONDS = 20.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0
# A worker that lived as long did not fail at its start.
_HEALTHY_SECONDS = 60.0
_log = logging.getLogger(__name__)


@dataclass
class _Place:
    """One of ``num_workers``.

    Attributes:
        process: The worker; None before its first start.
        started_at: By the monotonic clock, seconds.
        pause_seconds: Before the next start.
        starts_at: When it is started again, by the monotonic clock.
    """

    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_seconds: float = _FIRST_PAUSE_SECONDS
    starts_at: float = 0.0

    def pause(self, now: float) -> None:
        """Delay the next start, the one after it longer."""
        self.starts_at = now + self.pause_seconds
        self.pause_seconds = min(2 * self.pause_seconds, _LONGEST_PAUSE_SECONDS)


class Supervisor:
    """Keeps ``num_workers`` processes running, from entering the context until its end.

    They get the configuration by their standard input, and end when it is closed, also if this process is killed.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._places = [_Place() for _ in range(config.num_workers)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> "Supervisor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers; their running diagnoses go back into the queue."""
        self._stop.set()
        self._thread.join()
        processes = [place.process for place in self._places if place.process is not None]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def num_alive(self) -> int:
        """Number of workers that run."""
        return sum(place.process is not None and place.process.poll() is None for place in self._places)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            for place in self._places:
                self._look_at(place)

    def _look_at(self, place: _Place) -> None:
        now = time.monotonic()
        if place.process is not None and (code := place.process.poll()) is not None:
            if now - place.started_at >= _HEALTHY_SECONDS:
                place.pause_seconds = _FIRST_PAUSE_SECONDS
            _log.warning("A worker ended (code %d), and is started again in %g s.", code, place.pause_seconds)
            place.process = None
            place.pause(now)
        if place.process is None and now >= place.starts_at:
            try:
                place.process, place.started_at = self._started(), now
            except OSError as error:
                reason, pause = error.strerror, place.pause_seconds
                _log.warning("A worker could not be started (%s); it is tried again in %g s.", reason, pause)
                place.pause(now)

    def _started(self) -> subprocess.Popen[bytes]:
        # In its own group Ctrl-C does not reach it twice.
        process = subprocess.Popen(
            [sys.executable, "-m", "luna_pipeline.serving.worker", "--supervised"],
            stdin=subprocess.PIPE,
            process_group=0,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(self._config)).encode() + b"\n")
            process.stdin.flush()
        return process
