"""Every shell script of the house can be parsed by the shell that runs it, and by a linter where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from luna_pipeline_tests.processes import REPOSITORY

FOLDERS = [REPOSITORY / name for name in ("deploy", "luna_pipeline_tests")]
SCRIPTS = [
    REPOSITORY / ".ci" / "run",
    *sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.suffix in {".sh", ".sbatch"}),
]


def test_there_are_scripts():
    assert {path.name for path in SCRIPTS} >= {"run", "start.sh", "train.sbatch", "make_env.sh", "engine.sh"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_parsed(path: Path):
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True, check=False).stderr == b""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_called_unless_another_names_their_shell(path: Path):
    # Compose and the image of PostgreSQL call those of the stack by `sh`, or read them into a shell of their own.
    assert bool(path.stat().st_mode & 0o111) == (path.parent.name != "stack")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_scripts_have_nothing_a_linter_finds(path: Path):
    result = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
