"""How commands end: one line for an error, nothing for a lost reader, no warnings of libraries."""

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from luna_pipeline.cli.ending import run_command


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a function as a command; return its exit code and standard error."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(work: Callable[[], None], *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["luna", *arguments])
        try:
            run_command(lambda **_: work())
        except SystemExit as end:
            return int(str(end.code)), capsys.readouterr().err
        return 0, capsys.readouterr().err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def failing(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("Size must be positive,\n got 0."), "Size must be positive, got 0."),
        (RuntimeError(), "RuntimeError"),
        (BrokenPipeError("of a server"), "of a server"),
        (KeyboardInterrupt(), "Interrupted; what was finished is kept."),
        (
            KeyError("no_such"),
            "KeyError: 'no_such'. This is a fault of the program. `luna --debug ...` shows where it is.",
        ),
    ],
)
def test_an_error_is_one_line(ended, error: BaseException, line: str):
    assert ended(failing(error)) == (1, f"{line}\n")


def test_debug_lets_an_error_through(ended):
    with pytest.raises(KeyError):
        ended(failing(KeyError("no_such")), "--debug")


def test_warnings_of_libraries_are_not_shown_and_those_of_your_extensions_are(ended, monkeypatch):
    monkeypatch.delenv("MLFLOW_LOGGING_LEVEL", raising=False)
    monkeypatch.setattr(sys, "warnoptions", [])
    variables = {}

    def work() -> None:
        variables.update(os.environ)
        warnings.warn_explicit("Old", FutureWarning, "library.py", 1, module="library")
        warnings.warn_explicit("Mine", UserWarning, "mine.py", 1, module="luna_extension_mine_1")

    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        assert ended(work) == (0, "")
    assert [str(each.message) for each in shown] == ["Mine"]
    # For the processes that a command starts.
    assert variables["MLFLOW_LOGGING_LEVEL"] == "WARNING"
    assert "PYTHONWARNINGS" in variables
    assert "MLFLOW_LOGGING_LEVEL" not in os.environ


@pytest.mark.parametrize("options", [[], ["default"]])
def test_debug_and_pythonwarnings_show_warnings(ended, monkeypatch, options: list[str]):
    monkeypatch.setattr(sys, "warnoptions", options)

    def work() -> None:
        warnings.warn_explicit("Old", FutureWarning, "library.py", 1, module="library")

    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        ended(work, *([] if options else ["--debug"]))
    assert [str(each.message) for each in shown] == ["Old"]


def test_a_reader_that_has_ended_is_no_error(tmp_path: Path):
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "luna_pipeline.cli", "--help"],
            stdout=write,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(("value", "is_coloured"), [("1", False), ("", True)])
def test_no_color_is_followed_on_a_terminal(monkeypatch, capsys, value: str, is_coloured: bool):
    @click.command()
    def coloured() -> None:
        click.secho("ok", fg="green")

    monkeypatch.setattr(sys, "argv", ["luna"])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", value)
    handler = signal.getsignal(signal.SIGTERM)
    run_command(coloured)
    signal.signal(signal.SIGTERM, handler)
    assert ("\x1b" in capsys.readouterr().out) is is_coloured
