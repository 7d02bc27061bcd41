"""What a person sees of a training run: a moving bar in a terminal, plain lines everywhere else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from luna_pipeline.core.events.messages import (
    Handler,
    LogBatch,
    LogBatchEnd,
    LogBatchStart,
    LogEpoch,
    LogMetrics,
    LogModel,
    LogProfile,
    LogStart,
    Message,
    Mode,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from luna_pipeline.tracking.handlers import HandlerContext

SHOWN_METRICS = ("loss", "auc", "average_precision", "sensitivity", "specificity")


def plain_value(value: float) -> str:
    """Return a number as people read it; what is not defined says so."""
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def plain_metrics(values: Mapping[str, float]) -> str:
    """Return the values that belong on one line, the well-known ones."""
    return ", ".join(f"{name} {plain_value(values[name])}" for name in SHOWN_METRICS if name in values)


def plain_share(part: float, whole: float) -> str:
    """Return a share as people read it; there is none of nothing."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else "0.0 %"


@dataclass
class ConsoleHandlers:
    """Says what happens, line by line; within a pass either by a bar or by a line now and then.

    Attributes:
        write_line: Where the lines go; None means standard error, which keeps standard output clean.
        console: The terminal; None means the process's own.
        seconds_between_lines: Without a terminal, the least time between two lines of one pass.
        clock: Seconds that only grow.
    """

    write_line: Callable[[str], None] | None = None
    console: Console | None = None
    seconds_between_lines: float = 30.0
    clock: Callable[[], float] = time.monotonic
    _bar: Progress | None = field(default=None, init=False, repr=False)
    _task: TaskID | None = field(default=None, init=False, repr=False)
    _last_line_at: float = field(default=0.0, init=False, repr=False)
    _num_epochs: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.console is None and self.write_line is None:
            from rich.console import Console

            self.console = Console(stderr=True)

    def handlers(self) -> dict[type[Message], Handler]:
        """Return who takes which type of message."""
        return {
            LogStart: self.show_start,
            LogEpoch: self.show_epoch,
            LogBatchStart: self.show_pass_start,
            LogBatch: self.show_batch,
            LogBatchEnd: self.show_pass_end,
            LogMetrics: self.show_metrics,
            LogProfile: self.show_profile,
            LogModel: self.show_model,
        }

    def show_start(self, message: LogStart) -> None:
        """Say what begins."""
        self._say(message.description)

    def show_epoch(self, message: LogEpoch) -> None:
        """Say how much an epoch will see."""
        self._num_epochs = message.num_epochs
        if message.epoch == 1:
            self._say(
                f"{message.num_epochs} epochs of {message.num_training_samples} training samples, "
                f"{message.num_validation_samples} validation samples, batches of {message.batch_size}"
            )

    def show_pass_start(self, message: LogBatchStart) -> None:
        """Open the bar of a pass, or start the clock of its lines."""
        self._last_line_at = self.clock()
        if self._is_terminal:
            from rich.progress import Progress

            self._bar = Progress(console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._title(message.epoch, message.mode), total=message.num_batches)

    def show_batch(self, message: LogBatch) -> None:
        """Move the bar, or say how far the pass is if nothing was said for a while."""
        done = message.batch_index + 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)
        elif self.clock() - self._last_line_at >= self.seconds_between_lines:
            self._last_line_at = self.clock()
            percent = 100 * done // message.num_batches
            self._say(
                f"{self._title(message.epoch, message.mode)}: {percent} % ({done} of {message.num_batches} "
                f"batches), loss {plain_value(message.loss)}"
            )

    def show_pass_end(self, message: LogBatchEnd) -> None:
        """Take the bar away and say how long the pass took, and how much of that it waited for data."""
        self.close()
        title = self._title(message.epoch, message.mode)
        waiting = plain_share(message.seconds_waiting, message.seconds)
        self._say(f"{title}: {message.num_batches} batches in {message.seconds:.1f} s, {waiting} waiting for data")

    def show_metrics(self, message: LogMetrics) -> None:
        """Say what an epoch brought."""
        self._say(f"{self._title(message.epoch, message.mode)}: {plain_metrics(message.values)}")

    def show_profile(self, message: LogProfile) -> None:
        """Say where the time went, and where the trace is."""
        for line in message.table.splitlines():
            self._say(line)
        waiting = plain_share(message.waiting_share, 1.0)
        self._say(f"{waiting} of the profiled time waiting for data; the trace is {message.trace_file}")

    def show_model(self, message: LogModel) -> None:
        """Say what was kept."""
        self._say(f"{message.name} {message.version} is trained (research use only)")

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    @property
    def _is_terminal(self) -> bool:
        return self.write_line is None and self.console is not None and self.console.is_terminal

    def _title(self, epoch: int, mode: Mode) -> str:
        return f"epoch {epoch}/{self._num_epochs} {mode}"

    def _say(self, line: str) -> None:
        if self.write_line is not None:
            self.write_line(line)
        elif self.console is not None:
            # Neither colours nor wrapping: a log file takes the line as it is.
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def console_handlers(context: HandlerContext) -> ConsoleHandlers:
    """Return the handler ``console``."""
    return ConsoleHandlers(write_line=context.write_line)
