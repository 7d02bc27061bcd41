"""Scans that a system searched: the score over these beside the official one, with values computed by hand."""

import json

import pytest

from luna_pipeline.core.evaluation.official import evaluate_froc
from luna_pipeline.core.evaluation.searched import check_searched, evaluate_searched, read_searched
from luna_pipeline_tests.core.evaluation.froc_cases import froc_tables

# Three scans with one nodule each. A: found. B: found, and a false positive above it. C: no mark at all.
MARKS = [("A", 0, 0, 0, 0.9), ("B", 0, 0, 0, 0.5), ("B", 90, 0, 0, 0.7)]
NODULES = [(uid, 0, 0, 0, 10) for uid in "ABC"]


def tables(marks=MARKS, scans="ABC", **more):
    return froc_tables(marks, NODULES, scans=scans, **more)


def test_an_unsearched_scan_changes_rates_and_sensitivities_of_the_second_number_only():
    found = evaluate_searched(tables(), ["B", "A"])
    assert found.not_searched == ("C",)
    # Officially 1 of 3 nodules up to 1/3 false positives a scan, then 2 of 3; at 1/8 and 1/4 only the first one.
    assert found.official.curve.sens_at_points == pytest.approx([1 / 3] * 2 + [2 / 3] * 5)
    assert found.official.curve.cpm == pytest.approx((2 / 3 + 10 / 3) / 7)
    # Over A and B: 1 of 2 nodules below 1/2 false positives a scan, then both.
    assert found.searched.curve.sens_at_points == pytest.approx([1 / 2] * 2 + [1.0] * 5)
    assert found.searched.curve.cpm == pytest.approx(6 / 7)
    assert found.searched.samples.counts["total_nodules"] == 2
    assert found.official.samples.counts["total_nodules"] == 3


def test_the_official_number_is_that_without_a_list_of_searched_scans():
    plain = evaluate_froc(tables(), num_bootstraps=20, seed=3).to_dict()
    both = evaluate_searched(tables(), ["A", "B"], num_bootstraps=20, seed=3).to_dict()
    second = both.pop("searched")
    assert both == plain
    assert (second["n_scans"], second["n_searched"], second["not_searched"]) == (3, 2, ["C"])
    assert set(second) >= {"counts", "sens_at_points", "cpm", "froc", "bootstrap"}
    assert second["bootstrap"]["num_bootstraps"] == 20


def test_a_searched_scan_without_marks_counts_in_both_numbers():
    found = evaluate_searched(tables(), "ABC")
    assert found.not_searched == ()
    assert found.searched.to_dict() == found.official.to_dict()


def test_a_scan_listed_twice_is_searched_twice_and_a_header_is_no_scan():
    found = evaluate_searched(tables(scans=["seriesuid", "A", "A", "B", "C"]), ["A", "C"])
    assert found.not_searched == ("B",)
    assert (found.official.samples.num_scans, found.searched.samples.num_scans) == (5, 3)
    assert evaluate_searched(tables(scans=["A", "A", "B"]), ["A"], is_corrected=True).searched.samples.num_scans == 1


def test_searched_scans_without_a_nodule_have_no_score():
    found = evaluate_searched(tables([("C", 90, 0, 0, 0.7)], scans="ABCD"), ["D"])
    assert found.to_dict()["searched"]["cpm"] is None


@pytest.mark.parametrize(
    ("searched", "options", "words"),
    [
        ("A", {}, r"Marks must lie in searched scans, got 2 in others \(the first in 'B'\)"),
        ("AB", {"refuses_unsearched": True}, r"got 1 of 3 that were not \(the first is 'C'\)"),
        ("XYZ", {}, r"At least one listed scan must have been searched, got none \(3 searched scans, 3 listed\)"),
        ("", {}, r"must have been searched, got none \(0 searched scans, 3 listed\)"),
    ],
)
def test_searched_scans_that_contradict_the_submission_are_refused(searched, options, words):
    with pytest.raises(ValueError, match=words):
        check_searched(tables(), searched, **options)


def test_searched_scans_that_are_not_listed_are_reported_with_the_difference():
    assert check_searched(tables(), "ABC") == []
    assert check_searched(tables(), "ABCX") == ["1 searched scans are not listed, and ignored."]
    (said,) = check_searched(tables(), ["A", "B", "C.mhd"])
    assert "'C.mhd' in the table, 'C' in the list: they end in '.mhd'" in said


def test_searched_scans_are_read_from_lists_and_diagnoses(tmp_path):
    (tmp_path / "list.csv").write_text("seriesuid,seconds\nA,3\n\nB,4\n")
    assert read_searched(tmp_path / "list.csv") == ["A", "B"]
    for name, scans in (("1", ["A"]), ("2", ["C"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "diagnosis.json").write_text(json.dumps({"searched_scans": scans}))
    assert read_searched(tmp_path) == ["A", "C"]
    assert read_searched(tmp_path / "2/diagnosis.json") == ["C"]


def test_a_diagnosis_without_its_scans_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold diagnosis.json, got none"):
        read_searched(tmp_path)
    (tmp_path / "diagnosis.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must list its searched_scans, got None \(.*diagnosis.json\)\. Diagnose"):
        read_searched(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file none.csv"):
        read_searched(tmp_path / "none.csv")
