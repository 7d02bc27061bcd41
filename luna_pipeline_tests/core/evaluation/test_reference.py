"""LUNA16's tables restricted to the scans of some folds."""

import pandas as pd
import pytest

from luna_pipeline.core.evaluation.official import evaluate_froc
from luna_pipeline.core.evaluation.reference import read_reference
from luna_pipeline_tests.core.evaluation.froc_cases import rows

FINDINGS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
FOLDS = pd.DataFrame({"series_instance_uid": ["A", "B", "C"], "fold": [0, 0, 1]})


@pytest.fixture
def root(tmp_path):
    (tmp_path / "annotations.csv").write_text(FINDINGS + "A,0,0,0,10\nC,0,0,0,10\n")
    (tmp_path / "annotations_excluded.csv").write_text(FINDINGS + "B,0,0,0,-1\n")
    (tmp_path / "seriesuids.csv").write_text("C\nB\nA\n")
    return tmp_path


def test_scans_are_the_listed_ones_of_the_folds_in_the_lists_order(root):
    reference = read_reference(root, FOLDS, of_folds=[0])
    assert (reference.scans, reference.notes) == (["B", "A"], ())
    assert read_reference(root, FOLDS, of_folds=[0, 1]).scans == ["C", "B", "A"]


def test_predictions_are_held_against_the_folds_alone(root):
    reference = read_reference(root, FOLDS, of_folds=[0])
    marks = rows([("A", 0, 0, 0, 0.9), ("B", 0, 0, 0, 0.8), ("C", 0, 0, 0, 0.7)], "probability")
    counts = evaluate_froc(reference.tables_of(marks)).samples.counts
    # The mark in C belongs to another fold, the mark in B lies on an excluded finding.
    assert (counts["true_positives"], counts["total_nodules"], counts["ignored_on_excluded"]) == (1, 1, 1)


def test_without_a_list_all_series_of_the_folds_count(root):
    (root / "seriesuids.csv").unlink()
    assert read_reference(root, FOLDS, of_folds=[0]).scans == ["A", "B"]


def test_what_a_reader_must_know_is_said(root):
    (root / "annotations_excluded.csv").unlink()
    (root / "seriesuids.csv").write_text("seriesuid\nA\nX\nY\n")
    reference = read_reference(root, FOLDS, of_folds=[0])
    assert reference.scans == ["A"]
    assert reference.notes == (
        "There is no annotations_excluded.csv: marks on such findings are false positives.",
        "1 series of the folds are not in seriesuids.csv: left out (the first is B).",
        "2 scans of seriesuids.csv have no readable CT here (the first is X).",
    )


def test_without_annotations_there_is_nothing_to_find(root):
    (root / "annotations.csv").unlink()
    assert read_reference(root, FOLDS, of_folds=[0]) is None


@pytest.mark.parametrize("value", ["nan", "inf", "x", "1e300"])
def test_a_bad_annotation_of_another_scan_costs_nothing_and_one_of_these_is_refused(root, value):
    (root / "annotations.csv").write_text(f"{FINDINGS}A,0,0,0,10\nZ,0,0,0,{value}\nC,0,{value},0,10\n")
    assert len(read_reference(root, FOLDS, of_folds=[0]).nodules) == 3
    with pytest.raises(ValueError, match=rf"coordY must be .*, got '{value}' \(annotations.csv line 4\)"):
        read_reference(root, FOLDS, of_folds=[1])


def test_tables_whose_series_are_written_in_another_way_are_noted(root):
    folds = FOLDS.assign(series_instance_uid=["1.2.3", "1.2.4", "1.2.5"])
    for name in ("annotations.csv", "annotations_excluded.csv"):
        (root / name).write_text(f"{FINDINGS}1.2.3.mhd,0,0,0,10\n")
    (root / "seriesuids.csv").write_text("1.2.3\n'1.2.4\n1.2.5\n")
    notes = [note for note in read_reference(root, folds, of_folds=[0, 1]).notes if "differ" in note]
    assert [note.split(" differ")[0] for note in notes] == [
        f"Series uids of {name}" for name in ("annotations.csv", "annotations_excluded.csv", "seriesuids.csv")
    ]
    assert all("they end in '.mhd'" in note for note in notes[:2])
