import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from luna_pipeline.core.candidates.matching import nearest_in_series


def nearest_within_radius(points, centers, radii):
    """Points and spheres of one series."""
    points, centers = np.reshape(points, (-1, 3)), np.reshape(centers, (-1, 3))
    series, center_series = (pd.Series(["1.2"] * len(rows), dtype=object) for rows in (points, centers))
    return nearest_in_series(series, points, center_series=center_series, centers_xyz=centers, radii_mm=radii)


def one_by_one(points, centers, radii):
    """Compare each point with each sphere, directly by the rule."""
    found = []
    for point in points:
        distances = [float(((point - center) ** 2).sum()) for center in centers]
        inside = [(mm2, place) for place, mm2 in enumerate(distances) if mm2 < radii[place] ** 2]
        found.append(min(inside, default=(0.0, -1))[1])
    return found


@pytest.mark.seed_defect("o")
def test_the_nearest_wins_not_the_first():
    centers = [[0, 0, 0], [4, 0, 0]]
    assert nearest_within_radius([[3, 0, 0], [1, 0, 0]], centers, [10, 10]).tolist() == [1, 0]


def test_a_point_on_the_surface_is_outside():
    points = [[2.999999, 0, 0], [3, 0, 0], [3.000001, 0, 0]]
    assert nearest_within_radius(points, [[0, 0, 0]], [3]).tolist() == [0, -1, -1]


def test_a_nearer_centre_that_is_too_small_does_not_hide_the_one_around_the_point():
    assert nearest_within_radius([[3, 0, 0]], [[4, 0, 0], [0, 0, 0]], [0.5, 10]).tolist() == [1]


@pytest.mark.seed_defect("o")
def test_without_points_or_centres_nothing_matches():
    assert nearest_within_radius(np.empty((0, 3)), [[0, 0, 0]], [1]).shape == (0,)
    assert nearest_within_radius([[0, 0, 0]], np.empty((0, 3)), []).tolist() == [-1]


def test_equal_radii_agree_with_a_tree():
    rng = np.random.default_rng(0)
    points, centers = rng.uniform(-50, 50, (2000, 3)), rng.uniform(-50, 50, (40, 3))
    distance, place = cKDTree(centers).query(points)
    expected = np.where(distance < 15, place, -1)
    np.testing.assert_array_equal(nearest_within_radius(points, centers, np.full(40, 15.0)), expected)


@pytest.mark.seed_defect(25)
def test_distances_are_in_double_precision():
    # In single precision both points would lie on the surface.
    assert nearest_within_radius([[300 + 1 - 1e-9, 0, 0], [300 + 1 + 1e-9, 0, 0]], [[300, 0, 0]], [1]).tolist() == [
        0,
        -1,
    ]


def test_of_two_centres_at_one_distance_the_first_counts():
    assert nearest_within_radius([[0, 0, 0]], [[2, 0, 0], [-2, 0, 0], [0, 2, 0]], [1, 3, 3]).tolist() == [1]


@pytest.mark.parametrize("seed", range(5))
def test_every_point_agrees_with_one_by_one_on_a_grid_full_of_ties(seed):
    rng = np.random.default_rng(seed)
    points, centers = rng.integers(-6, 7, (300, 3)) / 2, rng.integers(-6, 7, (30, 3)) / 2
    radii = rng.integers(1, 8, 30) / 2
    assert nearest_within_radius(points, centers, radii).tolist() == one_by_one(points, centers, radii)


@pytest.mark.seed_defect("o")
@pytest.mark.parametrize("kind", [object, "category"])
def test_only_spheres_of_the_points_series_count(kind):
    rng = np.random.default_rng(1)
    uids, center_uids = rng.choice(["1.2", "1.3", "1.4"], 400), rng.choice(["1.4", "1.2", "1.5"], 20)
    points, centers, radii = rng.uniform(-5, 5, (400, 3)), rng.uniform(-5, 5, (20, 3)), rng.uniform(1, 5, 20)
    found = nearest_in_series(
        pd.Series(uids, dtype=kind),
        points,
        center_series=pd.Series(center_uids, dtype=kind),
        centers_xyz=centers,
        radii_mm=radii,
    )
    expected = np.full(400, -1)
    for uid in ("1.2", "1.4"):
        rows, spheres = np.flatnonzero(uids == uid), np.flatnonzero(center_uids == uid)
        places = np.array(one_by_one(points[rows], centers[spheres], radii[spheres]))
        expected[rows] = np.where(places >= 0, spheres[places], -1)
    np.testing.assert_array_equal(found, expected)
    assert (found >= 0).sum() > 50


def test_without_points_or_spheres_no_series_matches():
    none, one = pd.Series([], dtype=object), pd.Series(["1.2"])
    nowhere, here = np.empty((0, 3)), np.zeros((1, 3))
    assert nearest_in_series(one, here, center_series=none, centers_xyz=nowhere, radii_mm=[]).tolist() == [-1]
    assert nearest_in_series(none, nowhere, center_series=one, centers_xyz=here, radii_mm=[1]).shape == (0,)
