"""Stages of a diagnosis: their seconds and their progress."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[str, int, int], None]
"""Called with the stage and the numbers of finished and of all its parts."""


class Stages:
    """Measures the stages and reports their progress."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._on_progress = on_progress

    @contextmanager
    def timed(self, stage: str, num_parts: int = 1) -> Iterator[Callable[[int, int], None]]:
        """Measure a stage, and yield a function for its progress."""
        started = time.perf_counter()

        def on_part(done: int, total: int) -> None:
            if self._on_progress is not None:
                self._on_progress(stage, done, total)

        on_part(0, num_parts)
        yield on_part
        on_part(num_parts, num_parts)
        self.seconds[stage] = time.perf_counter() - started
