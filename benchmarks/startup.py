"""Start-up time of the cutting command, as a user sees it."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.timing import OnRun, Way, measure
from benchmarks.workload import Workload
from luna_pipeline.core.phantom.dataset import make_phantom

TUTORIAL_IMPORT_SECONDS = 5.1
"""Imports of the tutorial's cutting command, measured once where it was installed; it is no part of this run."""
PHANTOM_SIZE_IRC = (40, 64, 64)
LUNA = Path(sys.executable).with_name("luna")


def run(workload: Workload, *, folder: Path, on_run: OnRun | None = None) -> dict[str, Any]:
    """Measure the processes of ``luna create_cutouts --help`` and of ``luna create_cutouts`` with nothing to do.

    Returns:
        Milliseconds by name, seconds beyond the interpreter's own start, and the tutorial's seconds of imports.
    """
    environment = _environment(folder)
    cut = [str(LUNA), "create_cutouts"]
    if not _is_there(cut, environment):
        return {"note": "luna create_cutouts is not there"}
    make_phantom(
        Path(environment["LUNA_DATA_DIR"]), num_series=2, num_subsets=2, seed=workload.seed, size_irc=(40, 64, 64)
    )
    _execute(cut, environment)
    commands = {"interpreter": [sys.executable, "-c", "pass"], "help": [*cut, "--help"], "up_to_date": cut}
    ways = [Way(name, partial(_execute, command, environment)) for name, command in commands.items()]
    timings = measure(ways, repeats=workload.repeats, on_run=on_run)
    beyond = {
        f"{name}_seconds": round(timings[name].median - timings["interpreter"].median, 3)
        for name in ("help", "up_to_date")
    }
    return {
        **{name: timing.as_dict() for name, timing in timings.items()},
        **beyond,
        "tutorial_import_seconds": TUTORIAL_IMPORT_SECONDS,
    }


def _environment(folder: Path) -> dict[str, str]:
    places = {"LUNA_DATA_DIR": "data", "LUNA_HOME": "home", "DAGSTER_HOME": "dagster"}
    (folder / "dagster").mkdir(parents=True)
    return {**os.environ, **{name: str(folder / place) for name, place in places.items()}}


def _is_there(command: list[str], environment: dict[str, str]) -> bool:
    done = subprocess.run([*command, "--help"], env=environment, check=False, capture_output=True)
    return done.returncode == 0


def _execute(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        msg = f"A command must end well, got {done.returncode}: {done.stderr[-500:]} ({' '.join(command[1:])})."
        raise RuntimeError(f"{msg} Run it by hand.")
