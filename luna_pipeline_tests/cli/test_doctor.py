"""`luna doctor`: the report, and its exit code."""

import json
from pathlib import Path

from luna_pipeline_tests.command_line import run_here


def test_problems_are_reported_with_their_fix_and_end_with_1(tmp_path: Path):
    environment = {"LUNA_HOME": str(tmp_path / "home"), "LUNA_DATADIR": "/data", "RAY_ADDRESS": "ray://head:10001"}
    done = run_here("doctor", cwd=tmp_path, environment=environment)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    row = next(number for number, line in enumerate(lines) if "LUNA_DATADIR" in line)
    assert lines[row].startswith("problem  LUNA_DATADIR")
    assert "fix: Did you mean LUNA_DATA_DIR?" in lines[row + 1]
    assert lines[-1].startswith("2 problems, ")
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_holds_the_same_and_a_set_up_without_problems_ends_with_0(tmp_path: Path):
    done = run_here("doctor", "--json", cwd=tmp_path, environment={"LUNA_HOME": str(tmp_path / "home")})
    report = json.loads(done.stdout)
    assert (done.returncode, report["counts"]["problem"]) == (0, 0), done.stdout
    assert {"name", "state", "value", "fix"} == set(report["findings"][0])
    names = [finding["name"] for finding in report["findings"]]
    assert {"Python", "Packages", "Memory", "LUNA_HOME", "MLflow", "DAGSTER_HOME", "RAY_ADDRESS"} <= set(names)
