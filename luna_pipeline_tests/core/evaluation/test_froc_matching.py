"""Matching of marks and nodules, rule by rule, on small cases."""

import numpy as np
import pytest

from luna_pipeline.core.evaluation.froc_matching import MISSED, match_marks
from luna_pipeline_tests.core.evaluation.froc_cases import froc_tables


def matched(marks, nodules=(), excluded=(), scans=("A",), *, is_corrected=False):
    tables = froc_tables(marks, nodules, excluded, scans)
    return match_marks(tables.marks, tables.nodules, tables.excluded, tables.scans, is_corrected=is_corrected)


def outcome(samples) -> dict[str, int]:
    short = {
        "tp": "true_positives",
        "fp": "false_positives",
        "fn": "false_negatives",
        "marks": "total_candidates",
        "ignored": "ignored_on_excluded",
        "doubles": "ignored_double_detections",
    }
    return {name: samples.counts[key] for name, key in short.items() if samples.counts[key]}


NODULE = ("A", 0, 0, 0, 10)


@pytest.mark.parametrize(
    ("x_mm", "expected"),
    [(4.999, {"tp": 1, "marks": 1}), (5.0, {"fp": 1, "fn": 1, "marks": 1}), (5.001, {"fp": 1, "fn": 1, "marks": 1})],
)
def test_a_mark_on_the_sphere_does_not_hit(x_mm, expected):
    assert outcome(matched([("A", x_mm, 0, 0, 0.5)], [NODULE])) == expected


def test_distance_is_that_of_all_three_axes():
    # 3-4-12 lies at 13 mm.
    for diameter_mm, is_hit in ((26.001, 1), (26, 0)):
        assert matched([("A", 3, 4, 12, 0.5)], [("A", 0, 0, 0, diameter_mm)]).counts["true_positives"] == is_hit


@pytest.mark.parametrize(("diameter_mm", "is_hit"), [(-1, True), (0, False), (9.99, True), (float("nan"), False)])
def test_an_unknown_diameter_is_10_mm_and_one_of_0_is_never_hit(diameter_mm, is_hit):
    assert matched([("A", 4.9, 0, 0, 0.5)], [("A", 0, 0, 0, diameter_mm)]).counts["true_positives"] == is_hit


def test_the_highest_mark_of_a_nodule_counts_and_the_others_are_doubles():
    samples = matched([("A", 0, 0, 0, 0.2), ("A", 1, 0, 0, 0.9), ("A", 2, 0, 0, 0.5)], [NODULE])
    assert outcome(samples) == {"tp": 1, "marks": 3, "doubles": 2}
    assert samples.probability.tolist() == [0.9]


def test_a_mark_in_two_nodules_finds_both():
    samples = matched([("A", 0, 0, 0, 0.7)], [NODULE, ("A", 1, 0, 0, 10)])
    assert outcome(samples) == {"tp": 2, "marks": 1}
    assert samples.probability.tolist() == [0.7, 0.7]


def test_a_missed_nodule_has_no_score_and_counts_all_the_same():
    samples = matched([("A", 50, 0, 0, 0.7)], [NODULE])
    assert samples.probability.tolist() == [MISSED, 0.7]
    assert samples.is_missed.tolist() == [True, False]


def test_a_score_below_that_of_missed_nodules_is_a_score():
    samples = matched([("A", 0, 0, 0, -2e9)], [NODULE])
    assert (samples.probability.tolist(), samples.is_missed.tolist()) == ([-2e9], [False])


def test_a_mark_on_excluded_findings_alone_is_ignored_once():
    excluded = [("A", 0, 0, 0, -1), ("A", 1, 0, 0, -1)]
    assert outcome(matched([("A", 0, 0, 0, 0.7)], excluded=excluded)) == {"marks": 1, "ignored": 1}


def test_a_mark_on_a_nodule_and_on_an_excluded_finding_is_the_nodules():
    assert outcome(matched([("A", 0, 0, 0, 0.7)], [NODULE], [NODULE])) == {"tp": 1, "marks": 1}


def test_a_mark_without_a_place_hits_nothing():
    assert outcome(matched([("A", float("nan"), 0, 0, 0.7)], [NODULE])) == {"fp": 1, "fn": 1, "marks": 1}


def test_marks_and_findings_of_scans_that_are_not_listed_count_for_nothing():
    samples = matched([("B", 0, 0, 0, 0.7), ("A", 9, 9, 9, 0.1)], [("B", 0, 0, 0, 10)], [("B", 0, 0, 0, 10)])
    assert outcome(samples) == {"fp": 1, "marks": 1}


def test_a_nodule_is_found_by_marks_of_its_own_scan_only():
    samples = matched([("B", 0, 0, 0, 0.7)], [NODULE], scans=("A", "B"))
    assert outcome(samples) == {"fp": 1, "fn": 1, "marks": 1}


def far(scores) -> list:
    """Return one false positive per score."""
    return [("A", 1000 + place, 0, 0, score) for place, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "num_kept"),
    [
        (np.arange(100), 100),
        (np.arange(101), 100),
        # 11 marks have the 101st score: all of them are removed.
        ([*range(10, 105), *[9] * 11], 95),
        # All marks have the 101st score.
        ([1.0] * 101, 0),
        ([1.0] * 100, 100),
    ],
)
def test_of_more_than_100_marks_those_above_the_101st_score_stay(scores, num_kept):
    assert matched(far(scores)).counts["total_candidates"] == num_kept


@pytest.mark.parametrize("scores", [[*range(10, 105), *[9] * 11], [1.0] * 101])
def test_corrected_a_tie_at_the_limit_leaves_100_marks(scores):
    marks = far(scores)
    forward, backward = matched(marks, is_corrected=True), matched(marks[::-1], is_corrected=True)
    assert forward.counts["total_candidates"] == 100
    assert sorted(forward.probability) == sorted(backward.probability)


def test_the_limit_holds_for_each_scan_by_itself():
    marks = [*far(range(101)), *[("B", 1000 + place, 0, 0, 0.5) for place in range(60)]]
    assert matched(marks, scans=("A", "B")).counts["total_candidates"] == 160


def test_a_scan_that_is_listed_twice_counts_twice():
    marks, nodules = [("A", 0, 0, 0, 0.7), ("A", 1, 0, 0, 0.6), ("A", 99, 0, 0, 0.1)], [NODULE]
    twice = matched(marks, nodules, [("A", 99, 0, 0, 3)], scans=("A", "A"))
    assert outcome(twice) == {"tp": 2, "marks": 6, "ignored": 2, "doubles": 2}
    assert twice.num_scans == 2
    once = matched(marks, nodules, [("A", 99, 0, 0, 3)], scans=("A", "A"), is_corrected=True)
    assert (outcome(once), once.num_scans) == ({"tp": 1, "marks": 3, "ignored": 1, "doubles": 1}, 1)


def test_corrected_a_mark_finds_the_nearest_nodule_alone():
    samples = matched([("A", 1, 0, 0, 0.7)], [NODULE, ("A", 1.5, 0, 0, 10)], is_corrected=True)
    assert outcome(samples) == {"tp": 1, "fn": 1, "marks": 1}
    assert samples.is_missed.tolist() == [True, False]


def test_scans_without_marks_and_nodules_divide():
    counts = matched([("A", 0, 0, 0, 0.7)], [NODULE], scans=("A", "B", "C", "D")).counts
    assert (counts["candidates_per_scan"], counts["sensitivity"]) == (0.25, 1.0)


def test_without_a_nodule_sensitivity_is_0_as_the_script_prints_it():
    assert matched([("A", 0, 0, 0, 0.7)]).counts["sensitivity"] == 0.0


def test_without_a_scan_there_is_nothing_to_divide_by():
    with pytest.raises(ValueError, match="at least one scan, got an empty list"):
        matched([("A", 0, 0, 0, 0.7)], scans=())
