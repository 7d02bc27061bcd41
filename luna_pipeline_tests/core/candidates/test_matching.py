import numpy as np
import pytest
from scipy.spatial import cKDTree

from luna_pipeline.core.candidates.matching import nearest_within_radius


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


def test_one_radius_a_centre():
    with pytest.raises(ValueError, match="one radius a centre, got 1 for 2"):
        nearest_within_radius([[0, 0, 0]], [[0, 0, 0], [1, 1, 1]], [1])
