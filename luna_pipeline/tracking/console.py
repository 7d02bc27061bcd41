"""Shows a training run: a progress bar in a terminal, plain lines everywhere else."""

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
    from rich.progress import Progress

    from luna_pipeline.tracking.handlers import HandlerContext

SHOWN_METRICS = (
    *("loss", "auc", "average_precision", "sensitivity", "specificity"),
    *("dice", "crop_dice", "lesion_recall", "false_candidates_per_scan"),
)


def plain_value(value: float) -> str:
    """Return a number with four decimals, or ``undefined`` for nan."""
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def plain_metrics(values: Mapping[str, float]) -> str:
    """Return the best-known metrics on one line."""
    return ", ".join(f"{name} {plain_value(values[name])}" for name in SHOWN_METRICS if name in values)


def plain_share(part: float, whole: float) -> str:
    """Return a share in percent; 0.0 % of a whole of 0."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else "0.0 %"


@dataclass
class ConsoleHandlers:
    """Shows a run line by line; a pass over the data as a progress bar, or as a line every 30 seconds.

    Attributes:
        write_line: Receives each line; None prints to standard error, which keeps standard output clean.
        console: The terminal; None for the one of the process.
        seconds_between_lines: Without a terminal, the shortest time between two lines of one pass.
        clock: Returns monotonic seconds.
    """

    write_line: Callable[[str], None] | None = None
    console: Console | None = None
    seconds_between_lines: float = 30.0
    clock: Callable[[], float] = time.monotonic
    _bar: Progress | None = field(default=None, init=False, repr=False)
    _last_line_at: float = field(default=0.0, init=False, repr=False)
    _num_epochs: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.console is None and self.write_line is None:
            from rich.console import Console

            self.console = Console(stderr=True)

    def handlers(self) -> dict[type[Message], Handler]:
        """Return the handlers by message type."""
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
        """Show the description of the run."""
        self._show(message.description)

    def show_epoch(self, message: LogEpoch) -> None:
        """Show the numbers of epochs and samples, once."""
        self._num_epochs = message.num_epochs
        if message.epoch == 1:
            self._show(
                f"{message.num_epochs} epochs of {message.num_training_samples} training samples, "
                f"{message.num_validation_samples} validation samples, batches of {message.batch_size}"
            )

    def show_pass_start(self, message: LogBatchStart) -> None:
        """Open the progress bar of a pass, or start the clock of its lines."""
        self._last_line_at = self.clock()
        if self._is_terminal:
            from rich.progress import Progress

            self._bar = Progress(console=self.console, transient=True)
            self._bar.start()
            self._bar.add_task(self._title(message.epoch, message.mode), total=message.num_batches)

    def show_batch(self, message: LogBatch) -> None:
        """Move the bar, or show the progress of the pass if the last line is old enough."""
        done = message.batch_index + 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)
        elif self.clock() - self._last_line_at >= self.seconds_between_lines:
            self._last_line_at = self.clock()
            percent = 100 * done // message.num_batches
            self._show(
                f"{self._title(message.epoch, message.mode)}: {percent} % ({done} of {message.num_batches} "
                f"batches), loss {plain_value(message.loss)}"
            )

    def show_pass_end(self, message: LogBatchEnd) -> None:
        """Remove the bar and show how long the pass took, and how much of that it waited for data."""
        self.close()
        title = self._title(message.epoch, message.mode)
        waiting = plain_share(message.seconds_waiting, message.seconds)
        self._show(f"{title}: {message.num_batches} batches in {message.seconds:.1f} s, {waiting} waiting for data")

    def show_metrics(self, message: LogMetrics) -> None:
        """Show the metrics of an epoch."""
        self._show(f"{self._title(message.epoch, message.mode)}: {plain_metrics(message.values)}")

    def show_profile(self, message: LogProfile) -> None:
        """Show the table of a profile, and the file of its trace."""
        for line in message.table.splitlines():
            self._show(line)
        waiting = plain_share(message.waiting_share, 1.0)
        self._show(f"{waiting} of the profiled time waiting for data; the trace is {message.trace_file}")

    def show_model(self, message: LogModel) -> None:
        """Show which model is trained."""
        self._show(f"{message.name} {message.version} is trained (research use only)")

    def close(self) -> None:
        """Restore the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @property
    def _is_terminal(self) -> bool:
        return self.write_line is None and self.console is not None and self.console.is_terminal

    def _title(self, epoch: int, mode: Mode) -> str:
        return f"epoch {epoch}/{self._num_epochs} {mode}"

    def _show(self, line: str) -> None:
        if self.write_line is not None:
            self.write_line(line)
        elif self.console is not None:
            # Log files get the line without colours and line breaks.
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def console_handlers(context: HandlerContext) -> ConsoleHandlers:
    """Return the handler that shows a run as lines, or with progress bars on a terminal."""
    return ConsoleHandlers(write_line=context.write_line)
