"""`luna list`: tables, JSON, and what is said without anything to list."""

import json
from pathlib import Path

from luna_pipeline.cli.listing import table_lines
from luna_pipeline_tests.command_line import run_here


def listed(*arguments: str, home: Path, **environment: str):
    return run_here("list", *arguments, cwd=home, environment={"LUNA_HOME": str(home), **environment})


def test_rows_become_columns_and_empty_columns_are_left_out():
    rows = [{"run_id": "a", "fold": None, "note": ""}, {"run_id": "bbbbbbbb", "fold": 3, "note": ""}]
    assert table_lines(rows) == ["run id    fold", "a", "bbbbbbbb  3"]
    assert table_lines([]) == []


def test_recipes_are_a_table_or_json(tmp_path: Path):
    table = listed("recipes", home=tmp_path)
    assert table.returncode == 0, table.stderr
    assert table.stdout.splitlines()[0].split() == ["name", "description"]
    rows = json.loads(listed("recipes", "--json", home=tmp_path).stdout)
    assert [line.split()[0] for line in table.stdout.splitlines()[1:]] == [row["name"] for row in rows]


def test_an_empty_home_has_no_versions_and_runs_need_dagsters_folder(tmp_path: Path):
    assert listed("versions", home=tmp_path).stdout == "There are no versions yet.\n"
    assert json.loads(listed("versions", "--json", home=tmp_path).stdout) == []
    refused = listed("runs", home=tmp_path)
    assert refused.returncode == 2
    assert "DAGSTER_HOME must name the folder of Dagster's runs, got None" in refused.stderr


def test_jobs_and_runs(tmp_path: Path):
    jobs = {row["name"] for row in json.loads(listed("jobs", "--json", home=tmp_path).stdout)}
    assert {"ingest", "evaluate", "demo"} <= jobs
    (tmp_path / "dagster").mkdir()
    runs = listed("runs", home=tmp_path, DAGSTER_HOME=str(tmp_path / "dagster"))
    assert (runs.returncode, runs.stdout) == (0, "There are no runs yet.\n")
