"""Runs a command with its output in a file, of which each line is passed on; signals go to the command once."""

import codecs
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_SIGNALS = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}
_PAUSE_SECONDS = 0.1


def run_logged(arguments: Sequence[str], log: Path, on_line: Callable[[str], object]) -> int:
    """Run a command and return its exit code; negative: the signal that ended it.

    Args:
        arguments: Program and arguments.
        log: Receives the output, after what it holds.
        on_line: Called with each line of the output.
    """
    with log.open("ab") as output:
        starts_at = output.tell()
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # Ctrl-C of the terminal reaches this process alone, which passes it on once.
            process_group=0,
        )
    with _ended(process), _signals_passed_to(process), log.open("rb") as lines:
        lines.seek(starts_at)
        reader = _LineReader(on_line)
        while process.poll() is None:
            if not reader.feed(lines.read()):
                time.sleep(_PAUSE_SECONDS)
        reader.feed(lines.read())
        reader.close()
    return process.returncode


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End a process that still runs at the end of the block, as when the terminal is gone."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def _signals_passed_to(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Pass signals that should end this process to another one, for whose end this process waits."""

    def pass_on(number: int, _frame: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(_SIGNALS[signal.Signals(number)])

    before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _LineReader:
    """Splits bytes that arrive piece by piece into lines."""

    def __init__(self, on_line: Callable[[str], object]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._on_line, self._rest = on_line, ""

    def feed(self, content: bytes) -> bool:
        """Pass on the lines that are complete; return whether there was anything."""
        *lines, self._rest = (self._rest + self._decoder.decode(content)).split("\n")
        for line in lines:
            self._on_line(line)
        return bool(content)

    def close(self) -> None:
        """Pass on a last line without an end."""
        if self._rest:
            self._on_line(self._rest)
