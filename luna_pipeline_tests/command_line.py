"""The command `luna` as a process, or in the test's own process: starting Python with torch takes seconds."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

OTHERS = ("LUNA_", "DAGSTER_", "MLFLOW_TRACKING_")
Done = subprocess.CompletedProcess


def run_process(*arguments: str, cwd: Path, environment: Mapping[str, str]) -> "Done[str]":
    """Run the command in a new process."""
    command = [sys.executable, "-m", "luna_pipeline.cli", *arguments]
    return subprocess.run(command, cwd=cwd, env=dict(environment), capture_output=True, text=True, check=False)


def run_here(*arguments: str, cwd: Path, environment: Mapping[str, str]) -> "Done[str]":
    """Run the command's entry point in this process, without the test's own settings in the environment."""
    from luna_pipeline.cli import main

    output, errors, code = io.StringIO(), io.StringIO(), 0
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        for name in [name for name in os.environ if name.startswith(OTHERS)]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["luna", *arguments])
        # The service's commands would change the logs of all tests that follow in this process.
        patch.setattr("luna_pipeline.serving.quiet_logs.set_up_logs", lambda **_: None)
        patch.chdir(cwd)
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except Exception:
            # As Python itself reports it.
            traceback.print_exc()
            code = 1
        finally:
            signal.signal(signal.SIGTERM, handler)
    return Done(["luna", *arguments], code, output.getvalue(), errors.getvalue())
