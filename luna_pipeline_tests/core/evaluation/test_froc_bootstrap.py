"""Bootstrap bands compared with bootstrap samples built in memory, and with the script's order statistics."""

import numpy as np
import pytest

from benchmarks.official_froc import froc_curve
from luna_pipeline.core.evaluation.froc import RankedFroc, sensitivity_at
from luna_pipeline.core.evaluation.froc_bootstrap import GRID, froc_band
from luna_pipeline.core.evaluation.froc_matching import match_marks
from luna_pipeline.core.evaluation.resampling import scan_draws
from luna_pipeline_tests.core.evaluation.froc_cases import froc_tables

SCANS = [f"S{place}" for place in range(12)]
NODULES = [(scan, 0, 0, 0, 10) for scan in SCANS[:8]]


def system(*, seed: int, gain: float, scans=SCANS):
    """Return a system that finds nodules at random; ``gain`` raises their scores above the false positives."""
    generator = np.random.default_rng(seed)
    found = [(scan, 0, 0, 0, generator.random() + gain) for scan in SCANS[:8] if generator.random() < 0.9]
    wrong = [(scan, 90 + place, 0, 0, generator.random()) for scan in SCANS for place in range(generator.integers(6))]
    tables = froc_tables([*found, *wrong], NODULES, scans=scans)
    return match_marks(tables.marks, tables.nodules, tables.excluded, tables.scans)


def test_a_weighted_curve_is_the_curve_of_the_samples_put_together():
    samples = system(seed=0, gain=0.2, scans=[*SCANS, "S3"])
    ranked = RankedFroc.of(samples)
    for draw in scan_draws(13, num_bootstraps=20, seed=1):
        # As in the script: the entries of a scan are repeated as often as one of its rows is drawn.
        drawn = [np.flatnonzero(samples.scans == samples.listed[row]) for row in np.repeat(np.arange(13), draw)]
        rows = np.concatenate(drawn)
        together = froc_curve(samples.probability[rows], samples.is_nodule[rows], samples.is_missed[rows], num_scans=13)
        curve = ranked.curve(draw)
        np.testing.assert_array_equal(curve.threshold, together.threshold)
        np.testing.assert_array_equal(sensitivity_at(GRID, curve), sensitivity_at(GRID, together))
        np.testing.assert_array_equal(curve.sens_at_points, together.sens_at_points)


def test_bounds_are_the_scripts_order_statistics_and_the_mean_lies_between():
    ranked = RankedFroc.of(system(seed=0, gain=0.2))
    band = froc_band(ranked, num_bootstraps=40, seed=3)
    curves = np.array([sensitivity_at(GRID, ranked.curve(draw)) for draw in scan_draws(12, num_bootstraps=40, seed=3)])
    ordered = np.sort(curves.astype(np.float32), axis=0)
    np.testing.assert_array_equal(band.lower, ordered[1])
    np.testing.assert_array_equal(band.upper, ordered[39])
    np.testing.assert_allclose(band.mean, curves.mean(axis=0), atol=1e-6)
    assert band.cpm_mean == pytest.approx(band.at_points(band.mean).mean())


def test_the_interval_of_the_cpm_is_of_the_draws_own_cpms():
    ranked = RankedFroc.of(system(seed=0, gain=0.2))
    band = froc_band(ranked, num_bootstraps=200, seed=0)
    lower, upper = band.cpm_interval
    assert (lower, upper) == pytest.approx(tuple(np.quantile(band.cpm, [0.025, 0.975])))
    # Narrower than the means of the bounds, which come from different draws at each rate.
    assert lower > band.at_points(band.lower).mean()
    assert upper < band.at_points(band.upper).mean()


def test_the_same_seed_gives_the_same_band_and_another_one_another():
    ranked = RankedFroc.of(system(seed=0, gain=0.2))
    one, same, other = (froc_band(ranked, num_bootstraps=10, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.cpm, same.cpm)
    assert not np.array_equal(one.cpm, other.cpm)


def test_officially_one_draw_without_a_curve_leaves_no_mean_and_corrected_it_is_left_out():
    tables = froc_tables([("A", 0, 0, 0, 0.9), ("B", 9, 0, 0, 0.1)], [("A", 0, 0, 0, 10)], scans=("A", "B"))
    samples = match_marks(tables.marks, tables.nodules, tables.excluded, tables.scans)
    official = froc_band(RankedFroc.of(samples), num_bootstraps=50, seed=0)
    assert np.isnan(official.cpm).any()
    assert np.isnan(official.mean).all()
    corrected = froc_band(RankedFroc.of(samples, is_corrected=True), num_bootstraps=50, seed=0)
    assert np.isnan(corrected.cpm).any()
    for values in (corrected.mean, corrected.lower, corrected.upper):
        assert values.tolist() == [1.0] * len(GRID)


def test_there_is_at_least_one_draw():
    with pytest.raises(ValueError, match="at least one bootstrap, got 0"):
        froc_band(RankedFroc.of(system(seed=0, gain=0.2)), num_bootstraps=0, seed=0)
