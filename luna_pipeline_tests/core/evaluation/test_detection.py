"""Scores of detectors on their own findings, with values computed by hand."""

import numpy as np
import pytest

from luna_pipeline.core.evaluation.detection import DETECTION_COLUMNS, detection_table, evaluate_detector
from luna_pipeline.core.evaluation.reference import Reference
from luna_pipeline_tests.core.evaluation.froc_cases import rows

NODULES = [(uid, 0, 0, 0, 10) for uid in "ABCD"]
# A: found first. B: found behind one false positive. C: found behind ten more. D: a finding beside the nodule.
FOUND = [("A", 0, 0, 0, 0.9), ("B", 0, 0, 0, 0.7), ("C", 0, 0, 0, 0.1), ("D", 6, 0, 0, 0.05)]
WRONG = [("A", 90, 0, 0, 0.8), *(("B", 90 + number, 0, 0, 0.5) for number in range(10))]


def reference(scans="ABCD", nodules=NODULES):
    return Reference(
        nodules=rows(nodules, "diameter_mm"), excluded=rows((), "diameter_mm"), scans=list(scans), notes=()
    )


def evaluated(marks, scans="ABCD", searched=None, nodules=NODULES, **options):
    marks = rows(marks, "probability")
    return evaluate_detector(marks, reference(scans, nodules), searched or scans, **options)


def test_recall_is_read_within_four_false_positives_a_scan_and_at_its_first_point():
    found = evaluated(FOUND + WRONG)
    # 11 false positives in 4 scans lie before C: 2.75 a scan; the finding beside D is another one.
    assert (found.lesion_recall, found.fps_per_scan, found.score_threshold) == (0.75, 2.75, 0.1)
    # Of two scans alone, 11 false positives are 5.5 a scan: C is out of reach, B has one before it.
    few = evaluated(FOUND[:3] + WRONG, scans="ABC", nodules=NODULES[:3])
    assert (few.lesion_recall, few.fps_per_scan) == (1.0, pytest.approx(11 / 3))
    none = evaluated([*FOUND[:2], *WRONG, ("B", 1, 0, 0, 0.1)], scans="AB")
    assert (none.lesion_recall, none.fps_per_scan, none.score_threshold) == (1.0, 0.5, 0.7)


def test_more_than_four_false_positives_a_scan_are_not_reached():
    marks = [("A", 0, 0, 0, 0.9), *(("A", 90 + number, 0, 0, 0.8) for number in range(9)), ("B", 0, 0, 0, 0.1)]
    found = evaluated(marks, scans="AB")
    assert (found.lesion_recall, found.fps_per_scan, found.score_threshold) == (0.5, 0.0, 0.9)
    assert found.search_recall == 1.0


def test_the_search_alone_counts_every_finding_without_a_limit():
    # 101 equal marks: officially none of them is among the 100 highest.
    marks = [("A", 0, 0, 0, 0.5), *(("A", 90 + number / 100, 0, 0, 0.5) for number in range(100))]
    found = evaluated(marks, scans="AB")
    assert found.froc.official.samples.num_marks == 0
    assert (found.lesion_recall, found.search_recall, found.findings_per_scan) == (0.0, 0.5, 50.5)


def test_a_detector_that_finds_nothing_has_recall_zero():
    found = evaluated([])
    assert (found.lesion_recall, found.fps_per_scan, found.search_recall, found.findings_per_scan) == (0, 0, 0, 0)
    assert np.isnan(found.froc.official.curve.cpm)


def test_scans_without_nodules_have_no_recall():
    found = evaluated([("E", 0, 0, 0, 0.5)], scans="E")
    assert np.isnan([found.lesion_recall, found.search_recall, found.fps_per_scan]).all()
    assert found.findings_per_scan == 1.0


def test_an_unsearched_scan_counts_officially_and_not_in_the_second_number():
    found = evaluated([FOUND[0]], searched="AB")
    assert found.froc.not_searched == ("C", "D")
    assert found.froc.official.curve.cpm == 0.25
    assert (found.froc.searched.curve.cpm, found.search_recall, found.findings_per_scan) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="Marks must lie in searched scans, got 1"):
        evaluated(FOUND[:3], searched="AB")


def test_table_has_a_row_a_detector_with_both_numbers():
    results = {
        "ours": evaluated(FOUND + WRONG, num_bootstraps=20),
        "blobs": evaluated(FOUND[:1], searched="A", num_bootstraps=20),
    }
    table = detection_table(results, folds="fold 0 of 5")
    assert table["model"].tolist() == ["ours", "blobs"]
    assert table[["num_scans", "num_searched"]].to_numpy().tolist() == [[4, 4], [4, 1]]
    assert table["cpm_searched"].tolist() == [table["cpm"][0], 1.0]
    assert table["lesion_recall"].tolist() == [0.75, 0.25]
    assert set(DETECTION_COLUMNS) <= set(table.columns)
    assert table["cpm_lower"].le(table["cpm"]).all()
