"""Results for programs: one JSON document on standard output, all other lines on standard error."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luna_pipeline.cli.results import print_json, write_result
from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """One small CT with one candidate, and one that is not in HU."""
    write_ct(tmp_path / "data", "1.2.3", random_hounsfield((40, 64, 64)))
    write_ct(tmp_path / "data", "1.2.4", random_hounsfield((40, 64, 64)) + np.int16(1024))
    rows = "".join(f"{uid},-30,-20,-260,0\n" for uid in ("1.2.3", "1.2.4"))
    (tmp_path / "data" / "candidates.csv").write_text(f"seriesuid,coordX,coordY,coordZ,class\n{rows}")
    (tmp_path / "luna").mkdir()
    return tmp_path


def run(home: Path, *arguments: str) -> tuple[int, Any, str]:
    """Run a command with --json; return its exit code, document and standard error."""
    places = {"HOME": str(home), "LUNA_HOME": str(home / "luna"), "LUNA_DATA_DIR": str(home / "data")}
    done = run_here(*arguments, "--json", cwd=home, environment=places)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def test_cutting_and_verifying_tell_what_became_of_each_series(home: Path):
    code, cut, lines = run(home, "create_cutouts", "--chunk-shape", "8,8,8")
    assert code == 1
    assert (cut["num_cut"], cut["num_current"], cut["is_up_to_date"]) == (1, 0, False)
    assert list(cut["failed"]) == ["1.2.4"]
    assert "Voxels must be HU" in cut["failed"]["1.2.4"]
    assert "2 series: 2 missing" in lines
    assert run(home, "verify_cutouts")[:2] == (0, {"damaged": {}, "is_repaired": False})
    path = home / "luna/cutouts/1.2.3.npz"
    path.write_bytes(path.read_bytes()[:1000])
    code, verified, _ = run(home, "verify_cutouts")
    assert (code, list(verified["damaged"])) == (1, ["1.2.3"])


def test_sources_are_told_with_where_they_lie(home: Path):
    _, sources, _ = run(home, "list_sources")
    by_name = {each["name"]: each for each in sources}
    assert by_name["luna16"]["root"] == str(home / "data")
    assert by_name["lndb"]["root"] is None
    assert by_name["lndb"]["licence"]


def test_same_scans_are_told_as_pairs(home: Path):
    (home / "copy").mkdir()
    for path in (home / "data").glob("1.2.3.*"):
        (home / "copy" / path.name).write_bytes(path.read_bytes())
    _, found, lines = run(home, "find_same_scans", "data", "copy", "--workers", "1")
    assert found["num_scans"] == 3
    assert [pair["kind"] for pair in found["pairs"]]
    assert "pairs of the same scan among 3 scans" in lines


def test_tokens_are_told_without_their_secrets(home: Path):
    assert run(home, "token", "list")[1] == []
    places = {"HOME": str(home), "LUNA_HOME": str(home / "luna")}
    run_here("token", "add", "radiology", cwd=home, environment=places)
    _, tokens, _ = run(home, "token", "list")
    assert [(each["name"], set(each)) for each in tokens] == [("radiology", {"name", "created_on"})]


def test_a_dash_is_standard_output_and_nothing_is_written_without_a_file(tmp_path, capsys):
    assert write_result(tmp_path / "r.json", {"cpm": 0.5}) is False
    assert json.loads((tmp_path / "r.json").read_text()) == {"cpm": 0.5}
    assert capsys.readouterr().out == ""
    assert write_result(None, {"cpm": 0.5}) is False
    assert write_result(Path("-"), {"cpm": 0.5}) is True
    assert json.loads(capsys.readouterr().out) == {"cpm": 0.5}


def test_numbers_that_json_does_not_know_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"cpm": float("nan")})
