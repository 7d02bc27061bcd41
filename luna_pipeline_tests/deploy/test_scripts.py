"""Every script below deploy/ can be parsed by the shell that runs it, and by a linter where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from luna_pipeline_tests.processes import REPOSITORY

OWN = [REPOSITORY / "deploy" / name for name in ("runpod", "slurm", "kubernetes")]
SCRIPTS = sorted(path for folder in OWN for path in folder.rglob("*") if path.suffix in {".sh", ".sbatch"})


def test_there_are_scripts():
    assert {path.name for path in SCRIPTS} >= {"start.sh", "train.sbatch"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_parsed(path: Path):
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True, check=False).stderr == b""
    assert path.stat().st_mode & 0o111


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_scripts_have_nothing_a_linter_finds(path: Path):
    result = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
