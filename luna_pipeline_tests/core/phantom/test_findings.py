"""The synthetic detector's offsets do not depend on the label; readers' ratings depend on the nodule."""

from dataclasses import replace

import numpy as np
import pytest

from luna_pipeline.core.phantom.findings import draw_jitter
from luna_pipeline.core.phantom.nodules import draw_nodule, draw_ratings
from luna_pipeline.core.phantom.series import PhantomConfig, make_series


@pytest.fixture(scope="module")
def findings():
    series = [make_series(PhantomConfig(seed=11, number=number, size_irc=(40, 80, 80))) for number in range(16)]
    return [item.findings for item in series]


def relative_misses(findings, *, is_nodule):
    """Distance of each candidate from its finding's middle, in radii."""
    misses = []
    for item in findings:
        targets = item.nodules if is_nodule else item.lookalikes
        for candidate in item.candidates:
            if candidate.is_nodule == is_nodule:
                gaps = [np.subtract(candidate.center_xyz, target.center_xyz) for target in targets]
                lengths = [np.linalg.norm(gap) / t.radius_mm for gap, t in zip(gaps, targets, strict=True)]
                misses.append(min(lengths))
    return np.array(misses)


@pytest.mark.seed_defect(15)
def test_centring_does_not_show_the_label(findings):
    nodules, others = (relative_misses(findings, is_nodule=flag) for flag in (True, False))
    assert len(nodules) > 30
    assert nodules.min() > 0.005
    assert nodules.max() < 1
    assert others.max() < 1
    assert nodules.mean() == pytest.approx(others.mean(), abs=0.08)
    assert nodules.std() == pytest.approx(others.std(), abs=0.08)


def test_jitter_stays_within_the_radius_and_points_everywhere():
    rng = np.random.default_rng(0)
    jitter = np.array([draw_jitter(rng, 3.0) for _ in range(2000)])
    lengths = np.linalg.norm(jitter, axis=1)
    assert lengths.max() < 3.0
    # Beta(2, 3) has the mean 2 / 5.
    assert lengths.mean() == pytest.approx(0.4 * 0.95 * 3.0, rel=0.05)
    assert np.abs(jitter.mean(axis=0)).max() < 0.1


def test_some_nodules_have_several_candidates_and_some_none(findings):
    hits = []
    for item in findings:
        for nodule in item.nodules:
            gaps = [
                np.linalg.norm(np.subtract(c.center_xyz, nodule.center_xyz)) < nodule.radius_mm for c in item.candidates
            ]
            hits.append(sum(gaps))
    assert min(hits) == 0
    assert max(hits) >= 2


def test_findings_keep_apart(findings):
    for item in findings:
        for number, nodule in enumerate(item.nodules):
            others = [*item.nodules[number + 1 :], *item.minor_nodules, *item.lookalikes]
            gaps = [np.linalg.norm(np.subtract(nodule.center_xyz, other.center_xyz)) for other in others]
            assert all(gap > nodule.radius_mm + other.radius_mm for gap, other in zip(gaps, others, strict=True))


def test_excluded_findings_mostly_have_no_diameter(findings):
    diameters = np.array([row.diameter_mm for item in findings for row in item.excluded])
    assert (diameters == -1).mean() > 0.7
    assert ((diameters == -1) | (diameters >= 3)).all()


def test_moving_findings_moves_every_position_by_the_same_shift(findings):
    item = findings[0]
    moved = item.moved_by((10.0, -20.0, 30.0))
    for name in ("nodules", "minor_nodules", "lookalikes", "candidates", "excluded"):
        for before, after in zip(getattr(item, name), getattr(moved, name), strict=True):
            assert np.allclose(np.subtract(after.center_xyz, before.center_xyz), (10, -20, 30))


def mean_rating(nodule, seed=0):
    rng = np.random.default_rng(seed)
    return np.mean([np.mean(draw_ratings(rng, nodule)) for _ in range(200)])


def plain_nodule(**changes):
    nodule = draw_nodule(np.random.default_rng(0), diameter_mm=8.0)
    return replace(nodule, **({"texture": "solid", "spiculation": 0.2} | changes))


def test_size_spicules_and_texture_raise_the_rating_and_calcium_lowers_it():
    base = mean_rating(plain_nodule())
    assert mean_rating(plain_nodule(diameter_mm=16.0)) > base + 0.5
    assert mean_rating(plain_nodule(spiculation=0.9)) > base + 0.5
    assert mean_rating(plain_nodule(texture="part-solid")) > base + 0.3
    assert mean_rating(plain_nodule(texture="calcified")) < base - 0.7


def test_three_or_four_readers_rate_from_1_to_5_and_disagree():
    rng = np.random.default_rng(3)
    ratings = [draw_ratings(rng, plain_nodule()) for _ in range(200)]
    assert {len(row) for row in ratings} == {3, 4}
    assert {rating for row in ratings for rating in row} <= {1, 2, 3, 4, 5}
    assert np.mean([len(set(row)) > 1 for row in ratings]) > 0.5


def test_drawn_diameters_lie_between_3_mm_and_the_largest():
    rng = np.random.default_rng(4)
    diameters = np.array([draw_nodule(rng, largest_mm=12.0).diameter_mm for _ in range(500)])
    assert diameters.min() >= 3
    assert diameters.max() <= 12
    assert np.median(diameters) < 9.5
