"""Shows stages: a moving line on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from luna_pipeline.terminal.log_lines import Counter
from luna_pipeline.terminal.plans import Stage

SECONDS_BETWEEN_LINES = 30.0


class Display(Protocol):
    """Shows the progress of a plan."""

    def line(self, text: str = "") -> None:
        """Show a line."""

    def begin(self, number: int, stage: Stage) -> None:
        """Show that a stage starts; ``number`` is its place from 0."""

    def progress(self, number: int, stage: Stage, counter: Counter) -> None:
        """Show how far a stage is."""

    def end(self, number: int, stage: Stage, result: str, seconds: float) -> None:
        """Show that a stage has ended."""

    def warn(self, level: str, message: str) -> None:
        """Show a warning or an error of the log."""

    def close(self) -> None:
        """Restore the terminal."""


def display_for(num_stages: int, width: int) -> Display:
    """Return the display for standard output.

    Args:
        num_stages: Number of stages.
        width: Length of the longest title.
    """
    if sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        return TerminalDisplay(num_stages, width)
    return PlainDisplay(num_stages, width)


@dataclass
class PlainDisplay:
    """Lines without control characters: the start and the end of each stage, and its progress now and then.

    Attributes:
        num_stages: Number of stages.
        width: Length of the longest title.
        clock: Returns monotonic seconds.
    """

    num_stages: int
    width: int
    clock: Callable[[], float] = time.monotonic
    _shown_at: float = 0.0

    def line(self, text: str = "") -> None:
        """Print a line at once."""
        print(text, flush=True)

    def begin(self, number: int, stage: Stage) -> None:
        """Print what the stage does."""
        self._shown_at = self.clock()
        self.line(f"{self._head(number, stage)} {stage.about} ...")

    def progress(self, number: int, stage: Stage, counter: Counter) -> None:
        """Print the progress if the last line is old enough."""
        if self.clock() - self._shown_at >= SECONDS_BETWEEN_LINES:
            self._shown_at = self.clock()
            self.line(f"{self._head(number, stage)} {counter.text}")

    def end(self, number: int, stage: Stage, result: str, seconds: float) -> None:
        """Print result and seconds."""
        self.line(f"{self._head(number, stage)} {shown_result(result, seconds)}")

    def warn(self, level: str, message: str) -> None:
        """Print a warning or an error."""
        self.line(f"{level.lower()}: {message}")

    def close(self) -> None:
        """Do nothing."""

    def _head(self, number: int, stage: Stage) -> str:
        return f"[{number + 1}/{self.num_stages}] {stage.title:<{self.width}}"


class TerminalDisplay:
    """The stage in progress with a bar and its seconds, below a line for each stage that has ended."""

    def __init__(self, num_stages: int, width: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._num_stages, self._width = num_stages, width
        # Lines of the log may hold anything: no markup, and no highlighting of numbers.
        self._console = Console(highlight=False, markup=False)
        cut = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            # On a narrow terminal it is cut, so that the bar stays one line.
            TextColumn("{task.fields[text]}", markup=False, table_column=cut),
        )
        self._bar = Progress(*columns, console=self._console, transient=True, expand=True)
        self._bar.start()
        self._task: Any = None

    def line(self, text: str = "") -> None:
        """Print a line above the bar, whole, whatever the width of the terminal."""
        self._console.print(text, soft_wrap=True)

    def begin(self, number: int, stage: Stage) -> None:
        """Show a bar for the stage."""
        self._task = self._bar.add_task(self._head(number, stage), total=None, text=stage.about)

    def progress(self, number: int, stage: Stage, counter: Counter) -> None:
        """Move the bar."""
        # A full bar would stop its clock; the stage is not over.
        self._bar.update(self._task, total=1.0, completed=min(counter.share, 0.99), text=counter.text)

    def end(self, number: int, stage: Stage, result: str, seconds: float) -> None:
        """Replace the bar by a line."""
        self._bar.remove_task(self._task)
        self.line(f"✓ {self._head(number, stage)} {shown_result(result, seconds)}")

    def warn(self, level: str, message: str) -> None:
        """Print a warning or an error in its colour."""
        style = "yellow" if level == "WARNING" else "red"
        self._console.print(f"{level.lower()}: {message}", style=style, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _head(self, number: int, stage: Stage) -> str:
        return f"[{number + 1}/{self._num_stages}] {stage.title:<{self._width}}"


def shown_result(result: str, seconds: float) -> str:
    """Return the text of an ended stage: ``36 CTs (1.2 s)``."""
    return f"{result or 'done'} ({seconds:.1f} s)"
