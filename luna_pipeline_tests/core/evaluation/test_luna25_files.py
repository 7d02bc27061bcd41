"""Predictions beside labels: CSV tables, outputs of containers, and refused ones."""

import json

import pytest

from luna_pipeline.core.evaluation.luna25_files import read_luna25_rows
from luna_pipeline.core.sources.luna25_container import LIKELIHOODS
from luna_pipeline_tests.core.sources.luna25_tables import annotation, write_table


@pytest.fixture
def truth(tmp_path):
    rows = [annotation(patient, lesion, label=patient % 2) for patient in (1, 2, 3) for lesion in (1, 2)]
    return write_table(tmp_path / "truth.csv", rows)


def output(path, *points):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"points": [{"name": name, "probability": score} for name, score in points]}))


def test_rows_are_in_the_order_of_the_predictions(truth, tmp_path):
    (tmp_path / "p.csv").write_text("AnnotationID,probability\n2_1_20010203,0.25\n1_2_20010203,0.75\n")
    rows = read_luna25_rows(truth, tmp_path / "p.csv")
    assert (list(rows.labels), list(rows.scores), list(rows.patients)) == ([0, 1], [0.25, 0.75], ["2", "1"])
    assert rows.num_not_scored == 4


def test_a_folder_of_outputs_is_read_in_the_order_of_paths(truth, tmp_path):
    output(tmp_path / "out" / "b" / LIKELIHOODS, ("1_1_20010203", 0.5))
    output(tmp_path / "out" / "a" / LIKELIHOODS, ("3_1_20010203", 1), ("2_2_20010203", 0.0))
    rows = read_luna25_rows(truth, tmp_path / "out")
    assert (list(rows.scores), list(rows.patients)) == ([1.0, 0.0, 0.5], ["3", "2", "1"])
    alone = read_luna25_rows(truth, tmp_path / "out" / "b" / LIKELIHOODS)
    assert list(alone.scores) == [0.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("AnnotationID,probability\n1_1_20010203,0.1\n1_1_20010203,0.2\n", r"one prediction.*p\.csv line 3"),
        ("AnnotationID,probability\n1_1_20010203,0.1\n9_1_20010203,0.2\n", r"with a label.*p\.csv line 3"),
        ("AnnotationID,probability\n1_1_20010203,high\n", "line 2"),
        ("AnnotationID,probability\n1_1_20010203,nan\n", "line 2"),
        ("AnnotationID;probability\n1_1_20010203;0,5\n", "commas"),
        ("AnnotationID,score\n1_1_20010203,0.5\n", "probability"),
    ],
)
def test_malformed_predictions_are_refused_with_the_line(truth, tmp_path, text, said):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=said) as refusal:
        read_luna25_rows(truth, tmp_path / "p.csv")
    assert "20010203" not in str(refusal.value), "AnnotationIDs name patients"


@pytest.mark.parametrize(
    "points",
    [
        *(None, [{"name": "1_1_20010203"}], [{"name": 1, "probability": 1}], [[]]),
        *([{"name": "1_1_20010203", "probability": value}] for value in (10**400, -(10**400), float("nan"))),
    ],
)
def test_malformed_outputs_are_refused(truth, tmp_path, points):
    (tmp_path / "p.json").write_text(json.dumps({"points": points}))
    with pytest.raises(ValueError, match="point 1"):
        read_luna25_rows(truth, tmp_path / "p.json")


@pytest.mark.parametrize("points", ["no json", '{"points": [1]}', '{"points": [{"name": "a", "probability": 1}]}'])
def test_folders_of_outputs_are_numbered_since_annotations_may_name_them(truth, tmp_path, points):
    output(tmp_path / "out" / "1_1_20010203" / LIKELIHOODS, ("1_1_20010203", 0.5))
    output(tmp_path / "out" / "1_2_20010203" / LIKELIHOODS)
    (tmp_path / "out" / "1_2_20010203" / LIKELIHOODS).write_text(points)
    with pytest.raises(ValueError, match="output 2 of 2") as refusal:
        read_luna25_rows(truth, tmp_path / "out")
    assert "20010203" not in str(refusal.value)


def test_missing_files_are_named(truth, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("absent.csv", "empty"):
        with pytest.raises(FileNotFoundError, match=name):
            read_luna25_rows(truth, tmp_path / name)
