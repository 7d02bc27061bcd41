"""How a command runs and ends: its exit code, errors in one line, no noise of libraries."""

import contextlib
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import click

from luna_pipeline.core.config.environment import environment_variables
from luna_pipeline.core.events.lost_interrupts import redelivered_interrupts

# Errors that no input should cause: their messages explain nothing without the traceback.
_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, NotImplementedError)
# Also for processes that a command starts.
_QUIET = {"PYTHONWARNINGS": "ignore", "MLFLOW_LOGGING_LEVEL": "WARNING"}


def run_command(run: Callable[..., Any]) -> None:
    """Run the command of the process's arguments; an error ends the process with exit code 1, wrong usage with 2.

    Without ``--debug`` an error is one line, and warnings of libraries are not shown. PYTHONWARNINGS and
    MLFLOW_LOGGING_LEVEL show them, too.
    """
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in sys.argv
    try:
        with environment_variables(_variables(debug=debug)), redelivered_interrupts():
            if not debug and not sys.warnoptions:
                # Those of your own extensions stay.
                warnings.filterwarnings("default", module="luna_extension_", append=True)
                warnings.simplefilter("ignore", append=True)
            # See no-color.org; without it, colours depend on the terminal.
            run(standalone_mode=False, color=False if os.environ.get("NO_COLOR") else None)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        # A second interrupt ends the process at once, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        click.echo("Interrupted; what was finished is kept.", err=True)
        sys.exit(1)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _has_lost_reader():
            sys.exit(1)
        if debug:
            raise
        click.echo(_line(error), err=True)
        sys.exit(1)


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect no garbage in a short command.

    Dagster's modules are many objects, none of which is garbage: to look through them takes 0.2 s.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _variables(*, debug: bool) -> dict[str, str]:
    return {"LUNA_DEBUG": "1"} if debug else {name: os.environ.get(name, value) for name, value in _QUIET.items()}


def _line(error: Exception) -> str:
    """Return an error as one line."""
    text, kind = " ".join(str(error).split()), type(error).__name__
    if isinstance(error, _FAULTS):
        return f"{kind}: {text}. This is a fault of the program. `luna --debug ...` shows where it is."
    return text or kind


def _has_lost_reader() -> bool:
    """Return whether the program that read the output has ended, as ``head`` does; then also forget the rest."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _terminate(_signal: int, _frame: Any) -> None:
    """Handle SIGTERM like Ctrl-C, so that runs are ended properly."""
    raise KeyboardInterrupt
