"""Bootstrapped AUC and average precision compared with scikit-learn in each draw."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from luna_pipeline.core.evaluation.intervals import auc_of, average_precision_of, ranking_intervals
from luna_pipeline.core.evaluation.resampling import RankedSamples, scan_draws

NUM_SCANS = 12


def drawn(seed: int, num: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, scores with many ties, and indices of scans."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(num) < 0.2).astype(int)
    return labels, np.round(generator.random(num) * 0.7 + 0.3 * labels, 2), generator.integers(0, NUM_SCANS, num)


@pytest.mark.parametrize("seed", range(4))
def test_values_of_a_draw_are_those_of_scikit_learn_with_its_weights(seed):
    labels, scores, scans = drawn(seed)
    ranked = RankedSamples.of(scores, labels, scans)
    for draw in scan_draws(NUM_SCANS, num_bootstraps=5, seed=seed):
        counts, weights = ranked.counts(draw), draw[scans]
        assert auc_of(*counts) == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12)
        expected = average_precision_score(labels, scores, sample_weight=weights)
        assert average_precision_of(*counts) == pytest.approx(expected, abs=1e-12)


def test_values_by_hand():
    # By decreasing score: a positive, a negative, a tie of both classes.
    positives, negatives = np.array([1, 1, 2]), np.array([0, 1, 2])
    assert auc_of(positives, negatives) == pytest.approx((1 + 1 + 0 + 1 / 2) / 4)
    assert average_precision_of(positives, negatives) == pytest.approx((1 + 2 / 4) / 2)


def test_what_a_draw_does_not_define_is_nan():
    nothing, one = np.array([], dtype=np.int64), np.array([0, 1])
    for counts in ((nothing, nothing), (one, one * 0), (one * 0, one)):
        assert math.isnan(auc_of(*counts))
    assert math.isnan(average_precision_of(one * 0, one))
    assert average_precision_of(one, one * 0) == 1.0


def test_bounds_are_the_percentiles_of_the_draws():
    labels, scores, scans = drawn(0)
    values = [
        roc_auc_score(labels, scores, sample_weight=draw[scans])
        for draw in scan_draws(NUM_SCANS, num_bootstraps=200, seed=3)
    ]
    found = ranking_intervals(labels, scores, [f"scan {place:02d}" for place in scans], num_bootstraps=200, seed=3)
    assert found["auc"] == pytest.approx(np.quantile(values, [0.025, 0.975]))
    assert found["average_precision"][0] < average_precision_score(labels, scores) < found["average_precision"][1]


def test_the_order_of_the_rows_changes_nothing():
    labels, scores, scans = drawn(1)
    order = np.random.default_rng(5).permutation(len(labels))
    first = ranking_intervals(labels, scores, scans, num_bootstraps=20)
    assert ranking_intervals(labels[order], scores[order], scans[order], num_bootstraps=20) == first


def test_candidates_that_go_by_scans_have_wider_bounds_than_independent_ones():
    # The level of the scores differs between scans: a nodule of one is below the non-nodules of the next.
    generator = np.random.default_rng(0)
    scans = np.repeat(np.arange(20), 30)
    labels = np.tile(np.arange(30) < 3, 20).astype(int)
    scores = generator.normal(size=20)[scans] + labels + 0.1 * generator.normal(size=600)
    by_scan, by_candidate = (
        np.diff(ranking_intervals(labels, scores, names, num_bootstraps=300)["auc"]).item()
        for names in (scans, np.arange(600))
    )
    assert by_scan > 1.2 * by_candidate


@pytest.mark.parametrize("num", [0, 8])
def test_without_draws_or_samples_there_is_no_interval(num):
    labels, scores, scans = (values[:num] for values in drawn(0))
    found = ranking_intervals(labels, scores, scans, num_bootstraps=0 if num else 10)
    assert list(found) == ["auc", "average_precision"]
    assert np.isnan(list(found.values())).all()


def test_of_one_scan_there_is_no_interval():
    found = ranking_intervals([0, 1, 1], [0.1, 0.2, 0.9], ["A", "A", "A"], num_bootstraps=10)
    assert np.isnan([*found["auc"], *found["average_precision"]]).all()
