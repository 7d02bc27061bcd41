"""The command `luna` as a process, or in the test's own process: starting Python with torch takes seconds."""

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
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

    return _called(main, ["luna", *arguments], cwd=cwd, environment=environment)


def run_page(page: str, *, cwd: Path, environment: Mapping[str, str]) -> "Done[str]":
    """Run the blocks of shell of a page of the documentation, line by line until one fails.

    The shell reads the words of each line (quotes, comments, variables, other commands). Those of `luna` and of
    `python FILE` are executed in this process, all other lines by the shell.
    """
    ran = Done(["bash"], 0, "", "")
    values = dict(environment)
    for line in page.replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.startswith("export "):
            told = _shell(f"{line}\nexec env -0", cwd=cwd, environment=values)
            values |= dict(entry.split("=", 1) for entry in told.stdout.split("\0") if entry)
            continue
        done = _run_line(line, cwd=cwd, environment=values)
        ran = Done([*ran.args, line], done.returncode, ran.stdout + done.stdout, ran.stderr + done.stderr)
        if done.returncode != 0:
            break
    return ran


def _run_line(line: str, *, cwd: Path, environment: Mapping[str, str]) -> "Done[str]":
    if not line.startswith(("luna ", "python ")):
        return _shell(line, cwd=cwd, environment=environment)
    told = _shell(f"printf '%s\\0' {line}", cwd=cwd, environment=environment)
    program, *arguments = told.stdout.split("\0")[:-1]
    if program == "luna":
        return run_here(*arguments, cwd=cwd, environment=environment)
    (file,) = arguments
    return _called(lambda: runpy.run_path(file, run_name="__main__"), arguments, cwd=cwd, environment=environment)


def _shell(script: str, *, cwd: Path, environment: Mapping[str, str]) -> "Done[str]":
    command = ["bash", "-e", "-c", script]
    return subprocess.run(command, cwd=cwd, env=dict(environment), capture_output=True, text=True, check=False)


def _called(main: Callable[[], object], argv: list[str], *, cwd: Path, environment: Mapping[str, str]) -> "Done[str]":
    output, errors, code = io.StringIO(), io.StringIO(), 0
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        for name in [name for name in os.environ if name.startswith(OTHERS)]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", argv)
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
    return Done(argv, code, output.getvalue(), errors.getvalue())
