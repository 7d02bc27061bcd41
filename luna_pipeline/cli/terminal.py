"""Progress bars of the command line: on standard error, and only where that is a terminal."""

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bars(contextlib.ExitStack):
    """Progress bars, one a stage, that disappear at the end; without a terminal there are none.

    Args:
        has_bytes: The numbers are bytes.
        lines_to_errors: Lines go to standard error, as standard output holds a result for a program.
    """

    def __init__(self, *, has_bytes: bool = False, lines_to_errors: bool = False) -> None:
        super().__init__()
        self._has_bytes, self._lines_to_errors = has_bytes, lines_to_errors
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        # A terminal without cursor movement would show each state of a bar on a new line.
        self.are_drawn = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")

    def show(self, stage: str, done: int, total: int | None, detail: str = "") -> None:
        """Show how much of a stage is done.

        Args:
            stage: Name of the bar.
            done: What is done, of ``total``; a number of bytes or of things.
            total: None if it is not known yet.
            detail: Shown behind the bar.
        """
        if not self.are_drawn:
            return
        if self._progress is None:
            self._progress = self._opened()
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, detail=detail)
        self._progress.update(self._tasks[stage], completed=done, total=total, detail=detail)

    def line(self, text: str) -> None:
        """Print a line, above bars that are drawn on the same terminal."""
        if self._progress is None or not (self._lines_to_errors or sys.stdout.isatty()):
            click.echo(text, err=self._lines_to_errors)
        else:
            # One line, whatever the width of the terminal.
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _opened(self) -> "Progress":
        # Loading rich takes 0.1 s.
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn() if self._has_bytes else MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        # Of its own console: on the shared one a bar within another, unfinished one is not drawn.
        console = Console(stderr=True, force_terminal=True)
        drawn = Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())
        return self.enter_context(drawn)
