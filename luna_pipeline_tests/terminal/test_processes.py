"""A command with its output in a file: every line is passed on, and signals reach it once."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from luna_pipeline.terminal.processes import run_logged


def test_each_line_is_passed_on_and_kept_with_what_was_in_the_log(tmp_path: Path):
    log, lines = tmp_path / "log.txt", []
    log.write_text("before\n")
    program = "import sys; print('ä 1'); print('an error', file=sys.stderr); print('last', end='')"
    assert run_logged([sys.executable, "-c", program], log, lines.append) == 0
    assert lines == ["ä 1", "an error", "last"]
    assert log.read_text() == "before\nä 1\nan error\nlast"


def test_the_exit_code_is_that_of_the_command(tmp_path: Path):
    assert run_logged([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log.txt", print) == 3


def test_a_command_whose_lines_cannot_be_shown_any_more_is_ended(tmp_path: Path):
    def refuse(line: str) -> None:
        raise BrokenPipeError(line)

    program = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with pytest.raises(BrokenPipeError) as raised:
        run_logged([sys.executable, "-c", program], tmp_path / "log.txt", refuse)
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(raised.value)), 0)


@pytest.mark.parametrize(("sent", "expected"), [(signal.SIGINT, "2"), (signal.SIGTERM, "15"), (signal.SIGHUP, "15")])
def test_a_signal_reaches_the_command_once_and_its_end_is_awaited(tmp_path: Path, sent, expected):
    program = (
        "import signal, sys, time\n"
        "got = []\n"
        "for one in (signal.SIGINT, signal.SIGTERM): signal.signal(one, lambda number, _: got.append(number))\n"
        "print('ready')\n"
        "while not got: time.sleep(0.02)\n"
        "time.sleep(0.3)\n"
        "print('got', *map(int, got))\n"
    )
    lines = []

    def on_line(line: str) -> None:
        lines.append(line)
        if line == "ready":
            threading.Timer(0.05, os.kill, (os.getpid(), sent)).start()

    before = signal.getsignal(sent)
    started = time.monotonic()
    assert run_logged([sys.executable, "-c", program], tmp_path / "log.txt", on_line) == 0
    assert lines == ["ready", f"got {expected}"]
    assert signal.getsignal(sent) == before
    assert time.monotonic() - started < 30
