"""FROC and CPM compared with results by hand and scikit-learn; properties for arbitrary marks."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchmarks.official_froc import froc_curve
from luna_pipeline.core.evaluation.froc import OPERATING_POINTS, RankedFroc, sensitivity_at
from luna_pipeline.core.evaluation.froc_matching import match_marks
from luna_pipeline.core.evaluation.official import evaluate_froc
from luna_pipeline_tests.core.evaluation.froc_cases import froc_tables

# Six marks on four scans with three nodules: found at 0.9 and at 0.6, missed once; false at 0.8, 0.7, 0.5 and 0.4.
NODULES = [("A", 0, 0, 0, 10), ("B", 0, 0, 0, 10), ("C", 0, 0, 0, 10)]
MARKS = [
    ("A", 0, 0, 0, 0.9),
    ("B", 0, 0, 0, 0.6),
    ("A", 90, 0, 0, 0.8),
    ("C", 90, 0, 0, 0.7),
    ("D", 90, 0, 0, 0.5),
    ("D", 91, 0, 0, 0.4),
]
SCANS = ("A", "B", "C", "D")


def test_curve_and_cpm_agree_with_paper_arithmetic():
    curve = evaluate_froc(froc_tables(MARKS, NODULES, scans=SCANS)).curve
    # 1/3 below 2 false positives (0.5 per scan), where it steps to 2/3.
    np.testing.assert_allclose(sensitivity_at((0.1, 0.49, 0.51, 1.0, 99.0), curve), np.array([1, 1, 2, 2, 2]) / 3)
    np.testing.assert_allclose(curve.sens_at_points, np.array([1, 1, 2, 2, 2, 2, 2]) / 3)
    assert curve.cpm == pytest.approx((1 + 1 + 2 * 5) / 3 / 7)
    assert curve.threshold[0] == pytest.approx(1.9)


def test_ties_of_found_and_false_are_one_diagonal():
    marks = [("A", 0, 0, 0, 0.5), *[("A", 90 + place, 0, 0, 0.5) for place in range(4)]]
    curve = evaluate_froc(froc_tables(marks, [("A", 0, 0, 0, 10)])).curve
    np.testing.assert_allclose(curve.sens_at_points, [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 1])


def test_without_a_false_positive_all_rates_are_0():
    curve = evaluate_froc(froc_tables(MARKS[:2], NODULES, scans=SCANS)).curve
    assert set(curve.fps_per_scan) == {0.0}
    assert curve.cpm == pytest.approx(2 / 3)


def test_where_nothing_is_found_the_script_says_nan_and_the_correction_0():
    tables = froc_tables(MARKS[2:], NODULES, scans=SCANS)
    assert np.isnan(evaluate_froc(tables).curve.sens_at_points).all()
    assert evaluate_froc(tables, is_corrected=True).curve.sens_at_points.tolist() == [0.0] * 7


def test_without_nodules_or_without_scores_nothing_is_defined():
    assert np.isnan(evaluate_froc(froc_tables(MARKS, scans=SCANS)).curve.cpm)
    dropped = [("A", 90 + place, 0, 0, 0.5) for place in range(101)]
    assert np.isnan(evaluate_froc(froc_tables(dropped, NODULES, scans=SCANS)).curve.cpm)


def test_rounding_decides_officially_at_a_step_and_not_when_corrected():
    # Seven of 25 false positives lie above the nodule, on seven scans: a step at exactly 1 per scan.
    wrong = [("A", 90 + place, 0, 0, 0.9 if place < 7 else 0.1) for place in range(25)]
    assert 7 / 25 * 25 > 7
    scans = ["A", *"BCDEFG"]
    tables = froc_tables([*wrong, ("A", 0, 0, 0, 0.5)], [("A", 0, 0, 0, 10)], scans=scans)
    # The rounded rate exceeds 1 by the last bit: the lower end of the step counts.
    assert evaluate_froc(tables).curve.sens_at_points[3] == 0.0
    assert evaluate_froc(tables, is_corrected=True).curve.sens_at_points[3] == 1.0


def test_a_result_in_json_has_null_for_what_is_undefined():
    values = evaluate_froc(froc_tables(MARKS[2:], NODULES, scans=SCANS), num_bootstraps=2).to_dict()
    assert values["cpm"] is None
    assert values["sens_at_points"] == [None] * 7
    assert values["bootstrap"]["sens_mean"] == [None] * 7
    assert values["counts"]["false_positives"] == 4


scores = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.5000001, 0.9])
marks_of_scans = st.lists(
    st.tuples(st.sampled_from(SCANS), st.sampled_from([0.0, 3.0, 90.0, 91.0, 92.0]), scores), min_size=1, max_size=30
)


def tables_of(marks) -> object:
    return froc_tables([(scan, x_mm, 0, 0, score) for scan, x_mm, score in marks], NODULES, scans=SCANS)


@settings(max_examples=150, deadline=None)
@given(marks_of_scans, st.sampled_from(SCANS), scores)
def test_one_more_false_positive_never_raises_a_sensitivity(marks, scan, score):
    more = [*marks, (scan, 500.0, score)]
    before, after = (evaluate_froc(tables_of(some), is_corrected=True).curve for some in (marks, more))
    assert (after.sens_at_points <= before.sens_at_points + 1e-12).all()
    # Officially, rounding may select the other end of a step, but no higher value.
    before, after = (evaluate_froc(tables_of(some)).curve for some in (marks, more))
    highest = sensitivity_at(np.array(OPERATING_POINTS) + 1e-9, before)
    assert ((after.sens_at_points <= highest + 1e-6) | np.isnan(highest)).all()


@settings(max_examples=100, deadline=None)
@given(marks_of_scans, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(marks, random):
    shuffled = list(marks)
    random.shuffle(shuffled)
    for is_corrected in (False, True):
        values = [
            evaluate_froc(tables_of(some), num_bootstraps=3, is_corrected=is_corrected).to_dict()
            for some in (marks, shuffled)
        ]
        assert values[0] == values[1]


@settings(max_examples=100, deadline=None)
@given(marks_of_scans)
# Three points on a line: with the middle one, a sensitivity differs in its last bit.
@example([("A", 0.0, 0.2), ("A", 90.0, 0.1), ("A", 90.0, 0.2), ("B", 0.0, 0.3), ("C", 0.0, 0.1)])
def test_ranked_samples_give_the_curve_of_scikit_learn(marks):
    tables = tables_of(marks)
    samples = match_marks(tables.marks, tables.nodules, tables.excluded, tables.scans)
    official = froc_curve(samples.probability, samples.is_nodule, samples.is_missed, num_scans=samples.num_scans)
    ranked = RankedFroc.of(samples).curve()
    if np.isfinite(official.sensitivity).all():
        for name in ("fps_per_scan", "sensitivity", "threshold"):
            np.testing.assert_array_equal(getattr(ranked, name), getattr(official, name))
    rates = np.linspace(0.01, 9, 400)
    np.testing.assert_array_equal(sensitivity_at(rates, ranked), sensitivity_at(rates, official))
    np.testing.assert_array_equal(ranked.sens_at_points, official.sens_at_points)


def test_with_every_nodule_found_the_area_is_scikit_learns_auc():
    generator = np.random.default_rng(0)
    labels, values = generator.random(300) < 0.3, np.round(generator.random(300), 2)
    curve = froc_curve(values, labels, np.zeros(300, dtype=bool), num_scans=10)
    area = np.trapezoid(curve.sensitivity, curve.fps_per_scan / curve.fps_per_scan[-1])
    assert area == pytest.approx(roc_auc_score(labels, values))
