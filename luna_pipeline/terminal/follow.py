"""Follows the stages of a plan by the lines of its log."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from luna_pipeline.terminal.display import Display
from luna_pipeline.terminal.log_lines import Record, counter_of, record_of
from luna_pipeline.terminal.plans import Stage


@dataclass
class StageFollower:
    """Shows each stage as it starts, progresses and ends.

    Attributes:
        stages: All stages in order.
        display: Shows them.
        clock: Returns monotonic seconds.
        results: Result of each ended stage.
    """

    stages: list[Stage]
    display: Display
    clock: Callable[[], float] = time.monotonic
    results: list[str] = field(default_factory=list)
    _current: int = -1
    _started_at: float = 0.0
    _result: str = ""
    _last: Record | None = None

    @property
    def current(self) -> Stage | None:
        """The stage that is in progress; None before the first and after the last."""
        return self.stages[self._current] if 0 <= self._current < len(self.stages) else None

    @property
    def seconds(self) -> float:
        """Seconds since the start of the current stage."""
        return self.clock() - self._started_at

    def start(self) -> None:
        """Start the next stage."""
        self._current += 1
        self._started_at, self._result = self.clock(), ""
        if self.current is not None:
            self.display.begin(self._current, self.current)

    def end_through(self, stage: Stage) -> None:
        """End the current stage and those up to ``stage``, and start the one after it."""
        last = self.stages.index(stage)
        while self._current <= last and self.current is not None:
            self.display.end(self._current, self.current, self._result, self.seconds)
            self.results.append(self._result)
            self.start()

    def read(self, line: str) -> None:
        """Take a line of the log."""
        record = self._last = record_of(line, self._last)
        if record.is_warning:
            self.display.warn(record.level, record.message)
        self._skip_to_started(record)
        stage = self.current
        if stage is None:
            return
        if counter := counter_of(record.message):
            self.display.progress(self._current, stage, counter)
        pattern, template = stage.result
        if pattern and (found := re.search(pattern, record.text)):
            self._result = template.format(*found.groups())
        ended = [one for one in self.stages[self._current :] if one.ends and re.search(one.ends, record.text)]
        if ended:
            self.end_through(ended[0])

    def _skip_to_started(self, record: Record) -> None:
        later = self.stages[self._current + 1 :]
        started = next((one for one in later if one.starts and re.search(one.starts, record.text)), None)
        if started is not None:
            self.end_through(self.stages[self.stages.index(started) - 1])
