import numpy as np
import pytest

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.datasets.nodule_masks import BallMasks
from luna_pipeline_tests.phantoms import IDENTITY

NO_START = np.zeros(3, dtype=np.int64)


def ball(center_irc, diameter_mm, spacing_irc=(2.0, 1.0, 1.0)) -> BallMasks:
    return BallMasks(np.array([center_irc], dtype=float), np.array([diameter_mm / 2]), np.array(spacing_irc))


def test_a_ball_on_an_anisotropic_grid_by_hand():
    mask = ball((1, 2, 2), 4.0).mask(NO_START, (3, 5, 5))
    # Radius 2 mm: the slices before and after are 2 mm away, where the ball is a point.
    cross = np.array([[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]], dtype=bool)
    assert np.array_equal(mask[1], cross)
    for outer in (mask[0], mask[2]):
        assert np.argwhere(outer).tolist() == [[2, 2]]


def test_a_ball_between_voxels_and_its_volume():
    mask = ball((20.3, 20.6, 19.7), 17.0, (0.8, 0.7, 0.7)).mask(NO_START, (40, 40, 40))
    assert mask.sum() * 0.8 * 0.7 * 0.7 == pytest.approx(np.pi / 6 * 17**3, rel=0.01)


def test_a_box_shows_its_part_of_a_ball_also_beyond_the_ct():
    masks = ball((2, 6, 6), 9.0)
    whole = masks.mask(NO_START, (6, 14, 14))
    start = np.array([-1, 3, 8])
    part = masks.mask(start, (5, 6, 6))
    assert np.array_equal(part[1:], whole[0:4, 3:9, 8:14])
    assert not part[0].all()


def test_a_nodule_smaller_than_a_voxel_keeps_its_nearest_voxel():
    mask = ball((1.4, 2.4, 2.4), 0.1, (5.0, 5.0, 5.0)).mask(NO_START, (4, 5, 5))
    assert np.argwhere(mask).tolist() == [[1, 2, 2]]
    assert not ball((9.0, 2.4, 2.4), 0.1).mask(NO_START, (4, 5, 5)).any()


def test_a_flipped_ct_has_the_ball_at_the_same_place_of_its_axial_view():
    grid = VoxelGrid((6, 8, 10), (0.7, 0.8, 2.5), (10.0, -20.0, -100.0), IDENTITY)
    flipped = VoxelGrid((6, 8, 10), (0.7, 0.8, 2.5), (10.0, -20.0, -87.5), (*IDENTITY[:8], -1.0))
    center_xyz = np.array([[13.0, -17.0, -94.0]])
    one, other = (
        BallMasks.of_annotations(center_xyz, np.array([6.0]), AxialView(each).grid).mask(NO_START, (6, 8, 10))
        for each in (grid, flipped)
    )
    assert one.any()
    assert np.array_equal(one, other)


def test_balls_are_joined_and_none_is_nothing():
    both = BallMasks(np.array([[1.0, 2, 2], [1, 2, 3]]), np.array([1.0, 1.0]), np.ones(3))
    first, second = ball((1, 2, 2), 2.0, (1, 1, 1)), ball((1, 2, 3), 2.0, (1, 1, 1))
    shape = (3, 6, 6)
    assert np.array_equal(both.mask(NO_START, shape), first.mask(NO_START, shape) | second.mask(NO_START, shape))
    none = BallMasks.of_annotations(np.empty((0, 3)), np.empty(0), VoxelGrid(shape, (1, 1, 1), (0, 0, 0), IDENTITY))
    assert not none.mask(NO_START, shape).any()
