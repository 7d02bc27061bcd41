"""Paired comparison of two systems on the same draws of scans."""

import numpy as np
import pytest

from luna_pipeline.core.evaluation.comparison import paired_difference
from luna_pipeline.core.evaluation.official import evaluate_froc
from luna_pipeline_tests.core.evaluation.froc_cases import froc_tables

SCANS = [f"S{place}" for place in range(12)]
NODULES = [(scan, 0, 0, 0, 10) for scan in SCANS[:8]]


def evaluated(gain: float, *, scans=SCANS, num_bootstraps=100, seed=0):
    """Scores of nodules are ``gain`` higher than those of false positives."""
    generator = np.random.default_rng(0)
    found = [(scan, 0, 0, 0, generator.random() + gain) for scan in SCANS[:8]]
    wrong = [(scan, 90 + place, 0, 0, generator.random()) for scan in SCANS for place in range(4)]
    tables = froc_tables([*found, *wrong], NODULES, scans=scans)
    return evaluate_froc(tables, num_bootstraps=num_bootstraps, seed=seed)


def test_a_system_is_neither_better_nor_worse_than_itself():
    itself = paired_difference(evaluated(0.2), evaluated(0.2))
    assert (itself.difference, itself.lower, itself.upper) == (0, 0, 0)
    assert not itself.is_better


def test_a_clearly_better_system_is_better_and_the_other_way_round_is_not():
    better, worse = evaluated(5.0), evaluated(-0.5)
    forward, backward = paired_difference(better, worse), paired_difference(worse, better)
    assert forward.is_better
    assert not backward.is_better
    assert (forward.lower, forward.upper) == pytest.approx((-backward.upper, -backward.lower))
    assert forward.difference == pytest.approx(better.curve.cpm - worse.curve.cpm)


def test_the_interval_is_that_of_the_differences_and_not_of_the_two():
    one, other = evaluated(0.3), evaluated(0.2)
    differences = one.band.cpm - other.band.cpm
    found = paired_difference(one, other)
    assert (found.lower, found.upper) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"scans": SCANS[:9]}, "12 scans, 100 draws of seed 0 and 9 scans"),
        ({"seed": 1}, "100 draws of seed 0 and 12 scans, 100 draws of seed 1"),
        ({"num_bootstraps": 50}, "100 draws of seed 0 and 12 scans, 50 draws"),
    ],
)
def test_other_draws_are_refused(change, got):
    with pytest.raises(ValueError, match=f"the same draws of the same scans, got .*{got}"):
        paired_difference(evaluated(0.2), evaluated(0.2, **change))


def test_without_draws_nothing_is_compared():
    with pytest.raises(ValueError, match="by draws of scans, got a result without"):
        paired_difference(evaluated(0.2), evaluated(0.2, num_bootstraps=0))


def test_a_draw_in_which_nothing_is_found_counts_and_one_without_a_nodule_does_not():
    # Both find the nodule of the first scan only, one of them below false positives.
    nodules = [(scan, 0, 0, 0, 10) for scan in SCANS]
    wrong = [(scan, 90, 0, 0, 0.5) for scan in SCANS]
    results = [
        evaluate_froc(froc_tables([("S0", 0, 0, 0, score), *wrong], nodules, scans=SCANS), num_bootstraps=200)
        for score in (0.9, 0.1)
    ]
    gain = paired_difference(*results)
    assert gain.num_bootstraps == 200
    assert (gain.lower, gain.is_better) == (0.0, False)
    empty = evaluate_froc(froc_tables(wrong, nodules[:1], scans=SCANS), num_bootstraps=200)
    assert np.isnan(empty.curve.cpm)
    assert empty.curve.comparable_cpm == 0.0
    assert 0 < int(np.isnan(empty.band.cpm).sum()) < 200
    assert set(empty.band.cpm[~np.isnan(empty.band.cpm)]) == {0.0}


def test_one_scan_says_nothing_of_others():
    nodules, scans = [("S0", 0, 0, 0, 10)], ["S0"]
    results = [
        evaluate_froc(froc_tables([("S0", x_mm, 0, 0, 0.9)], nodules, scans=scans), num_bootstraps=20)
        for x_mm in (0, 90)
    ]
    assert [result.curve.comparable_cpm for result in results] == [1.0, 0.0]
    assert np.isnan(results[0].band.cpm_interval).all()
    gain = paired_difference(*results)
    assert (gain.difference, gain.num_bootstraps, gain.is_better) == (1.0, 0, False)
