"""The program of the make targets: results, failures with reason and log, and nothing to do the second time."""

import sys
from pathlib import Path

import pytest

from luna_pipeline.terminal import __main__ as program
from luna_pipeline.terminal.plans import PLANS, Command, Plan, Stage

CODE = """
import os, pathlib, sys
home = pathlib.Path(os.environ["LUNA_HOME"])
with (home / "runs.txt").open("a") as file: file.write(sys.argv[1] + chr(10))
(home / "tables").mkdir(exist_ok=True)
(home / "tables/folds.parquet").write_bytes(b"x" * len((home / "runs.txt").read_text()))
if (home / "broken").exists():
    raise ValueError("The file must be there, got none. Make it.")
print("made 3 tables")
print("Untouched test folds: fold 0\\n  1  network")
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("data", "home", "dagster/history"):
        (tmp_path / name).mkdir(parents=True)
    for name, folder in {"LUNA_DATA_DIR": "data", "LUNA_HOME": "home", "DAGSTER_HOME": "dagster"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    stages = (Stage("Tables", "makes tables", result=(r"made (\d+) tables", "{0} tables")),)
    command = Command((sys.executable, "-c", CODE.replace("{", "{{").replace("}", "}}"), "seed{seed}"), stages)
    plan = Plan("demo", "A plan.", "a second", (command,), look={"make ui": "Dagster"})
    monkeypatch.setitem(PLANS, "demo", plan)
    return tmp_path


def run(*options: str) -> int:
    with pytest.raises(SystemExit) as ended:
        program.main(["demo", *options])
    return int(ended.value.code)


def test_a_plan_says_what_it_does_and_shows_results_and_what_to_look_at(target: Path, capsys):
    assert run() == 0
    (log,) = (target / "home/logs").iterdir()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["A plan.", f"It takes a second. Results: {target / 'home'}.", f"Log: {log}"]
    assert lines[4] == "[1/1] Tables makes tables ..."
    assert lines[5].startswith("[1/1] Tables 3 tables (")
    assert lines[6:] == [
        "",
        "Untouched test folds: fold 0",
        "  1  network",
        "",
        "Look at it:",
        "  make ui  Dagster",
    ]
    assert "made 3 tables" in log.read_text()


def test_the_second_time_there_is_nothing_to_do_unless_it_is_forced(target: Path, capsys):
    assert run() == 0
    assert run() == 0
    text = capsys.readouterr().out
    assert "Nothing to do: finished on " in text
    assert text.count("  1  network") == 2
    assert run("--force") == 0
    assert (target / "home/runs.txt").read_text() == "seed0\nseed0\n"


def test_another_seed_data_file_or_history_is_something_to_do(target: Path, capsys):
    assert run() == 0

    def reason(*options: str) -> str:
        capsys.readouterr()
        assert run(*options) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Run again: "))

    assert reason("--seed", "1") == "Run again: other settings."
    (target / "data/new.csv").touch()
    assert reason("--seed", "1") == "Run again: other data."
    (target / "home/tables/folds.parquet").unlink()
    assert reason("--seed", "1") == "Run again: tables/folds.parquet is gone or of another size."
    (target / "dagster/history").rmdir()
    assert reason("--seed", "1") == "Run again: another history of Dagster."


def test_a_table_that_another_job_wrote_is_nothing_to_do_but_cutouts_of_another_size_are(target: Path, capsys):
    (target / "home/cutouts").mkdir()
    (target / "home/cutouts/1.2.npz").write_bytes(b"12")
    assert run() == 0
    (target / "home/tables/folds.parquet").write_bytes(b"another length")
    assert run() == 0
    assert "Nothing to do" in capsys.readouterr().out
    (target / "home/cutouts/1.2.npz").write_bytes(b"1")
    assert run() == 0
    assert "cutouts/1.2.npz is gone or of another size" in capsys.readouterr().out


def test_a_failure_says_why_and_where_the_log_is_and_the_next_call_runs_again(target: Path, capsys):
    assert run() == 0
    (target / "home/broken").touch()
    assert run("--force") == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith(" s: The file must be there, got none. Make it.") for line in lines)
    log = next(line for line in lines if line.startswith("Log with all details: "))
    assert "Traceback" in Path(log.removeprefix("Log with all details: ")).read_text()
    (target / "home/broken").unlink()
    assert run() == 0
    assert "Nothing to do" not in capsys.readouterr().out


def test_a_value_that_changes_nothing_is_refused(target: Path, capsys):
    config = target / "demo.yaml"
    config.write_text("ops: {}\n")
    assert run("--config", str(config)) == 2
    assert "`make demo` must be given only what it uses, got CONFIG=" in capsys.readouterr().err
    used = {name: [value for value in ("seed", "config") if plan.uses(value)] for name, plan in PLANS.items()}
    del used["demo"]
    assert used == {"demo-diagnosis": ["seed", "config"], "study": ["config"], "real": []}


def test_without_a_table_of_scores_the_last_result_is_shown(target: Path, capsys, monkeypatch):
    monkeypatch.setattr(program, "scores_in", lambda _log: [])
    for _ in range(2):
        assert run() == 0
        assert capsys.readouterr().out.splitlines()[-4:] == ["3 tables", "", "Look at it:", "  make ui  Dagster"]


def test_a_file_of_configuration_replaces_the_seeds(target: Path):
    config = target / "demo.yaml"
    config.write_text("ops: {}\n")
    arguments = ("dg", "--config-json", "{{seed: {seed}}}")
    values = {"seed": "3", "config": str(config), "real": str(target)}
    assert program._filled(arguments, values, None) == ["dg", "--config-json", "{seed: 3}"]
    assert program._filled(arguments, values, str(config)) == ["dg", "-c", str(config)]
    assert program._filled(("dg", "-c", "{config}"), values, str(config)) == ["dg", "-c", str(config)]
    (target / "book").mkdir()
    (target / "book/cls.state").touch()
    assert program._filled(("luna", "{book}"), values, None) == ["luna", str(target / "book/cls.state")]
