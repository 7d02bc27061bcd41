"""Commands of the official evaluation and of submissions."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.launchers.evaluation.scoring import score
from luna_pipeline_tests.command_line import run_here, run_page, run_process
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.small_installation import FOLDS, SMALL, configuration, weights_of

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
MARKS = "seriesuid,coordX,coordY,coordZ,probability\n"


def places(cwd: Path) -> dict[str, str]:
    """Settings of an installation in the folder that the command runs in."""
    return {"LUNA_HOME": str(cwd / "home"), "LUNA_DATA_DIR": str(cwd / "data"), "LUNA_CACHE": str(cwd / "cache")}


def luna(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in this process."""
    return run_here(*arguments, cwd=cwd, environment=places(cwd))


def luna_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a process."""
    return run_process(*arguments, cwd=cwd, environment={**os.environ, **places(cwd)})


@pytest.fixture
def tables(tmp_path):
    """Two scans with a nodule each; one is found, and there is a false positive."""
    (tmp_path / "a.csv").write_text(FINDINGS + "A,0,0,0,10\nB,0,0,0,10\n")
    (tmp_path / "e.csv").write_text(FINDINGS)
    (tmp_path / "s.csv").write_text("A\nB\n")
    (tmp_path / "p.csv").write_text(MARKS + "A,1,0,0,0.9\nB,90,0,0,0.8\n")
    return tmp_path


EVALUATE = [
    "evaluate_froc",
    "--annotations",
    "a.csv",
    "--excluded",
    "e.csv",
    "--series",
    "s.csv",
    "--predictions",
    "p.csv",
    "--json",
    "o.json",
]


def test_a_submission_is_scored_and_told(tables):
    done = luna_process(*EVALUATE, "--bootstrap", "20", "--seed", "3", "--plot", "o.png", cwd=tables)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tables / "o.json").read_text())
    assert set(found) >= {"counts", "sens_at_points", "cpm", "froc", "bootstrap"}
    assert (found["cpm"], found["bootstrap"]["seed"]) == (0.5, 3)
    assert "2 scans, 2 nodules: 1 found, 1 false positives" in done.stdout
    assert re.search(r"CPM 0\.500000  \[[\d.]+, [\d.]+\]", done.stdout)
    assert "Research use only" in done.stdout
    with Image.open(tables / "o.png") as picture:
        assert picture.format == "PNG"


def test_without_draws_there_is_no_interval(tables):
    assert luna(*EVALUATE, cwd=tables).stdout.splitlines()[-2] == "CPM 0.500000"
    assert json.loads((tables / "o.json").read_text())["bootstrap"] is None


def test_without_a_file_the_result_is_lines_alone_or_json_on_standard_output(tables):
    before = sorted(tables.iterdir())
    lines = luna(*EVALUATE[:-2], cwd=tables)
    assert (lines.returncode, lines.stdout.splitlines()[-2]) == (0, "CPM 0.500000")
    document = luna(*EVALUATE[:-1], "-", cwd=tables)
    assert json.loads(document.stdout)["cpm"] == 0.5
    assert document.stderr.splitlines()[-2] == "CPM 0.500000"
    assert sorted(tables.iterdir()) == before


def test_what_is_not_defined_is_null_and_said(tables):
    (tables / "p.csv").write_text(MARKS + "A,90,0,0,0.9\n")
    assert "CPM undefined" in luna(*EVALUATE, cwd=tables).stdout
    assert json.loads((tables / "o.json").read_text())["cpm"] is None
    assert "CPM 0.000000" in luna(*EVALUATE, "--corrected", cwd=tables).stdout


def test_marks_of_other_scans_are_ignored_with_one_warning(tables):
    (tables / "p.csv").write_text(MARKS + "A,1,0,0,0.9\nZ,1,0,0,0.9\nY,1,0,0,0.9\n")
    done = luna(*EVALUATE, cwd=tables)
    assert done.returncode == 0
    assert done.stderr == "Warning: 2 marks are of series that are not listed, and ignored.\n"


def test_that_no_mark_is_left_is_said_and_no_error(tables):
    (tables / "e.csv").write_text(FINDINGS + "B,90,0,0,-1\n")
    # Officially, none of 101 equal marks is among the 100 highest.
    marks = "".join(f"A,1.{number:03},0,0,0.5\n" for number in range(101))
    (tables / "p.csv").write_text(f"{MARKS}{marks}B,90,0,0,0.8\n")
    done = luna(*EVALUATE, cwd=tables)
    assert done.returncode == 0
    assert done.stderr == (
        "Warning: 102 marks are of listed scans, and none is left after the limit of 100 a scan and the excluded "
        "findings.\n"
    )
    assert "2 scans, 2 nodules: 0 found, 0 false positives, 1 marks on excluded findings" in done.stdout


def test_a_scan_that_was_not_searched_gives_a_second_number(tables):
    before = luna(*EVALUATE, cwd=tables)
    plain = json.loads((tables / "o.json").read_text())
    (tables / "p.csv").write_text(MARKS + "A,1,0,0,0.9\n")
    (tables / "w.csv").write_text("A\n")
    done = luna(*EVALUATE, "--searched", "w.csv", cwd=tables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 2 listed scans were not searched (the first is B)." in done.stdout
    assert "Over the 1 searched scans alone: 1 nodules: 1 found, 0 false positives" in done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("CPM")] == ["CPM 0.500000", "CPM 1.000000"]
    found = json.loads((tables / "o.json").read_text())
    assert (found["cpm"], found["searched"]["cpm"], found["searched"]["not_searched"]) == (0.5, 1.0, ["B"])
    assert set(found) - set(plain) == {"searched"}
    assert "searched" not in before.stdout


def test_searched_scans_that_do_not_fit_are_refused_in_one_line(tables):
    (tables / "w.csv").write_text("A\n")
    done = luna(*EVALUATE, "--searched", "w.csv", cwd=tables)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Marks must lie in searched scans, got 1 in others (the first in 'B').")
    (tables / "p.csv").write_text(MARKS + "A,1,0,0,0.9\n")
    refused = luna(*EVALUATE, "--searched", "w.csv", "--refuse-unsearched", cwd=tables)
    assert refused.stderr.startswith("Every listed scan must have been searched, got 1 of 2 that were not")
    assert luna(*EVALUATE, "--refuse-unsearched", cwd=tables).returncode == 2
    assert not (tables / "o.json").exists()
    (tables / "w.csv").write_text("A\nB\n")
    assert "Every listed scan was searched." in luna(*EVALUATE, "--searched", "w.csv", cwd=tables).stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MARKS, "Predictions must hold marks of the listed scans, got none"),
        ("", "A table must have a header line, got an empty file (p.csv)"),
        (MARKS + "A,1,0,0,nan\n", "probability must be a finite number, got 'nan' (p.csv line 2)"),
        (MARKS + "A,1,0,0,inf\n", "probability must be a finite number, got 'inf' (p.csv line 2)"),
        (MARKS.replace("probability", "score") + "A,1,0,0,1\n", "Column probability must be in the table, got"),
        (MARKS + "A,1,0,x,0.5\n", "coordZ must be a number, got 'x' (p.csv line 2)"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(tables, text, words):
    (tables / "p.csv").write_text(text)
    done = luna(*EVALUATE, cwd=tables)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(words)
    assert len(done.stderr.splitlines()) == 1
    assert not (tables / "o.json").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small read-only installation with a nodule classifier that has not seen fold 0."""
    root = tmp_path_factory.mktemp("trained")
    index, _ = write_examples(root / "home/cutouts", folds=FOLDS, num_per_series=12)
    (root / "home/tables").mkdir()
    (root / "empty").mkdir()
    index.to_parquet(root / "home/tables/cutout_index.parquet")
    # Of fold 1 a candidate was not cut.
    others = index[index["fold"] == 1].head(1).assign(candidate_id=-1, source="candidate")
    pd.concat([index, others]).to_parquet(root / "home/tables/candidates.parquet")
    (root / "nodule.json").write_text(json.dumps(configuration("nodule", SMALL["ratios"]["nodule"])))
    done = luna(
        "train_luna_classification", "0.0.1", "--config", "nodule.json", "--epochs", "1", "--no-mlflow", cwd=root
    )
    assert done.returncode == 0, done.stderr
    return root


def test_a_fold_is_scored_as_a_submission(trained):
    done = luna_process("predict", "classification", "0.0.1", "--fold", "0", "--out", "p.csv", cwd=trained)
    assert (done.returncode, done.stderr) == (0, "")
    submission = pd.read_csv(trained / "p.csv", dtype={"seriesuid": str}, float_precision="round_trip")
    assert list(submission.columns) == ["seriesuid", "coordX", "coordY", "coordZ", "probability"]
    index = pd.read_parquet(trained / "home/tables/cutout_index.parquet")
    rows = index[index["fold"] == 0]
    expected = score(weights_of(trained, "nodule_classifier", "0.0.1"), rows, CutoutStore(trained / "home/cutouts"))
    np.testing.assert_array_equal(submission["probability"], expected)
    assert "12 candidates of 1 series by nodule_classifier 0.0.1. Research use only" in done.stdout


def test_a_submission_of_sampled_candidates_is_called_so(trained):
    done = luna("predict", "classification", "0.0.1", "--fold", "1", "--out", "p.csv", "--json", cwd=trained)
    sample = json.loads(done.stdout)["sample"]
    assert sample.startswith("Sampled candidates, not comparable: 12 of 13 candidates of these scans.")
    assert f"Warning: {sample}\n" in done.stderr


def test_files_of_cutouts_and_a_checkpoint_are_enough(trained):
    file = trained / "home/checkpoints/nodule_classifier/0.0.1/best.pt"
    done = luna("predict", str(file), "--cutouts", "home/cutouts", "--out", "p.csv", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(trained / "p.csv")) == 4 * 12
    assert done.stderr.startswith("Warning: 3 of 4 series were seen in training or validation")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["classification", "9.9"], 1, "got no file best.pt"),
        (["no_such_run"], 1, "A run of 'no_such_run' must be complete, got none"),
        (["classification", "0.0.1", "--fold", "7"], 1, "A fold must exist, got 7 of folds [0, 1, 2]"),
        (["classification", "0.0.1", "--cutouts", "empty"], 1, "must hold files of cutouts, got none"),
        (["classification", "0.0.1", "--cutouts", "empty", "--fold", "0"], 2, "got --fold with --cutouts"),
        (["classification", "--from", "mlflow"], 1, "A registered model must have a version, got none"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_a_line(trained, arguments, code, words):
    done = luna("predict", *arguments, "--out", "none.csv", cwd=trained)
    assert done.returncode == code
    assert words in done.stderr
    assert not (trained / "none.csv").exists()


def test_commands_of_the_page_on_evaluation_run_as_they_stand_there(tmp_path):
    page = (ROOT / "docs/how_to/evaluate.md").read_text()
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    done = run_page(block, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "froc.json").read_text())["n_scans"] == 2
    assert (tmp_path / "froc.png").stat().st_size > 5_000
