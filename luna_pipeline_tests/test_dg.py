"""Dagster's command line ``dg`` works in a clone, with the code location that Dagster's other programs load."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from luna_pipeline.definitions import defs
from luna_pipeline.runs.launcher import LOCATION

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def dg(tmp_path: Path):
    """Run ``dg`` at the root of the repository, with a DAGSTER_HOME as ``make`` sets it up."""
    (tmp_path / "dagster").mkdir()
    shutil.copy(ROOT / "dagster.yaml", tmp_path / "dagster")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    environment |= {
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "HOME": str(tmp_path),
        "LUNA_HOME": str(tmp_path / "luna"),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess:
        program = Path(sys.executable).parent / "dg"
        done = subprocess.run(
            [program, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "SupersessionWarning" not in done.stderr
        return done

    return run


def test_dg_checks_and_lists_all_definitions(dg):
    assert "All definitions loaded successfully." in dg("check", "defs").stdout
    listed = json.loads(dg("list", "defs", "--json").stdout)
    assert {asset["asset_key"] for asset in listed["assets"]} == {
        key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()
    }
    assert {job["name"] for job in listed["jobs"]} >= {"ingest", "cut", "tune", "evaluate", "demo"}


def test_every_way_to_load_the_definitions_has_one_location_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    (workspace,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert project["code_location_target_module"] == workspace["python_module"]["module_name"]
    assert project["code_location_name"] == workspace["python_module"]["location_name"] == LOCATION
