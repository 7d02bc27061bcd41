"""The commands of the tutorial do what its pages say, in their order, on its small phantom."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest

from docs_tools.build import DOCS
from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.docs_tools.test_commands import lines_of


def run_line(line: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a line of a page, `luna` in this process; return what it prints."""
    is_luna = line.startswith("luna ")
    # The shell replaces what is in "$(...)".
    shell = f"printf '%s\\0' {line}" if is_luna else line
    done = subprocess.run(["bash", "-ec", shell], cwd=folder, capture_output=True, text=True, check=False)
    if is_luna:
        done = run_here(*done.stdout.rstrip("\0").split("\0")[1:], cwd=folder, environment=environment)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_steps_of_the_tutorial_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    environment = {"LUNA_DATA_DIR": f"{tmp_path}/data", "LUNA_HOME": f"{tmp_path}/home", "OMP_NUM_THREADS": "1"}
    printed = {}
    for page in sorted((DOCS / "tutorial").glob("[1-5]_*.md")):
        for line in lines_of(page.read_text()):
            printed[line.strip()] = run_line(line, tmp_path, environment)
    of_ct, of_folds, of_cutouts = (text for line, text in printed.items() if line.startswith("python -c"))
    assert "voxels (index, row, col) (40, 80, 80)" in of_ct
    assert len(of_folds.splitlines()) == 6  # A title, a name, and a row for each of the four folds.
    assert "'ct_chunks': (" in of_cutouts
    (again,) = (text for line, text in printed.items() if line == "luna create_cutouts")
    assert again.startswith("Nothing to do")
    assert {path.name for path in tmp_path.glob("*.*")} >= {"submission.csv", "froc.json", "froc.png", "fold0.csv"}
    classes = pd.read_parquet(tmp_path / "home/tables/candidates.parquet")["class"]
    assert 0 < classes.sum() < len(classes) / 2


def test_the_last_step_is_what_a_test_of_the_page_on_diagnosis_runs():
    of_diagnosis = list(lines_of((DOCS / "how_to/diagnose.md").read_text()))
    lines = list(lines_of((DOCS / "tutorial/6_diagnosis.md").read_text()))
    assert len(lines) == 2
    assert [line for line in lines if line not in of_diagnosis] == []
