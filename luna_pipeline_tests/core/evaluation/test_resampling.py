"""Draws of scans and sorted samples."""

import numpy as np
import pytest

from luna_pipeline.core.evaluation.resampling import RankedSamples, percentile_interval, scan_draws


def test_draws_are_those_of_numpys_seeded_global_generator():
    generator = np.random.RandomState(7)
    for draw in scan_draws(5, num_bootstraps=3, seed=7):
        assert draw.tolist() == [int(n) for n in np.bincount(generator.randint(5, size=5), minlength=5)]


def test_a_draw_has_as_many_scans_as_there_are():
    assert [int(draw.sum()) for draw in scan_draws(888, num_bootstraps=4, seed=0)] == [888] * 4


def test_equal_scores_are_one_step():
    ranked = RankedSamples.of([0.2, 0.9, 0.2, 0.5], [1, 1, 0, 0], [0, 1, 2, 2])
    assert ranked.thresholds.tolist() == [0.9, 0.5, 0.2]
    positives, negatives = ranked.counts()
    assert (positives.tolist(), negatives.tolist()) == ([1, 1, 2], [0, 1, 2])


def test_a_draw_counts_the_samples_of_a_scan_as_often_as_it_was_drawn():
    ranked = RankedSamples.of([0.2, 0.9, 0.2, 0.5], [1, 1, 0, 0], [0, 1, 2, 2])
    positives, negatives = ranked.counts(np.array([3, 0, 2]))
    assert (positives.tolist(), negatives.tolist()) == ([0, 0, 3], [0, 2, 4])


def test_of_no_sample_there_is_no_step():
    assert [part.tolist() for part in RankedSamples.of([], [], []).counts()] == [[], []]


def test_an_interval_leaves_out_what_is_not_defined():
    values = [np.nan, *range(101)]
    assert percentile_interval(values) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval([np.nan])).all()
