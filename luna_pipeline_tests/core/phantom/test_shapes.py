"""Distances of shapes against hand calculation, and the voxels that painting changes."""

import numpy as np
import pytest

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.phantom.nodules import LobedBall
from luna_pipeline.core.phantom.shapes import Barrel, Canvas, Capsule, Ellipsoid

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
TURNED = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def distance(shape, *point):
    x, y, z = (np.full((1, 1, 1), value, np.float32) for value in point)
    return float(shape.distance(x, y, z).item())


def canvas(direction=IDENTITY, size_irc=(20, 30, 40), spacing=(1.0, 1.0, 2.0)):
    return Canvas(VoxelGrid(size_irc, spacing, (-5.0, 7.0, 3.0), direction), edge_mm=0.5)


def test_ball_distance_is_that_of_paper():
    ball = Ellipsoid((1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    assert distance(ball, 4.0, 2.0, 3.0) == pytest.approx(1.0)
    assert distance(ball, 1.0, 3.0, 3.0) == pytest.approx(-1.0)


def test_turned_ellipsoid_reaches_along_its_turned_axes():
    shape = Ellipsoid((0.0, 0.0, 0.0), (4.0, 1.0, 2.0), TURNED)
    assert shape.reach_mm == pytest.approx((1.0, 4.0, 2.0))
    assert distance(shape, 0.0, 4.0, 0.0) == pytest.approx(0.0, abs=1e-6)
    assert distance(shape, 1.0, 0.0, 0.0) == pytest.approx(0.0, abs=1e-6)


def test_barrel_surface_passes_through_its_half_axes():
    barrel = Barrel((0.0, 0.0, 0.0), (3.0, 2.0, 5.0))
    for point in ((3, 0, 0), (0, -2, 0), (0, 0, 5)):
        assert distance(barrel, *point) == pytest.approx(0.0, abs=1e-5)
    # Fuller than an ellipsoid between its axes.
    assert distance(barrel, 2.3, 0.0, 3.0) < 0


def test_capsule_radius_changes_evenly_and_ends_are_round():
    rod = Capsule((0.0, 0.0, 0.0), (10.0, 0.0, 0.0), 1.0, 3.0)
    assert distance(rod, 5.0, 5.0, 0.0) == pytest.approx(3.0)
    assert distance(rod, 14.0, 0.0, 0.0) == pytest.approx(1.0)
    assert rod.reach_mm == (8.0, 3.0, 3.0)


def test_lobe_bulges_the_ball_on_its_side_only():
    ball = LobedBall((0.0, 0.0, 0.0), (4.0, 4.0, 4.0), IDENTITY, (((1.0, 0.0, 0.0), 0.25),))
    assert distance(ball, 5.0, 0.0, 0.0) == pytest.approx(0.0, abs=1e-2)
    assert distance(ball, -4.0, 0.0, 0.0) == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize("direction", [IDENTITY, TURNED, (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)])
def test_painted_ball_lies_where_the_grid_says_and_has_its_volume(direction):
    board = canvas(direction)
    center = board.grid.voxel_to_world((10, 14, 18))
    board.paint(Ellipsoid(tuple(center), (6.0, 6.0, 6.0)), 0.0)
    filled = (board.hounsfield + 1000) / 1000
    middle = np.stack(np.indices(filled.shape), axis=-1).reshape(-1, 3).T @ filled.ravel() / filled.sum()
    assert middle == pytest.approx([10, 14, 18], abs=0.05)
    # A voxel has 2 mm³.
    assert filled.sum() * 2 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.03)


def test_shape_outside_the_ct_changes_nothing_and_one_at_the_border_is_cut():
    board = canvas()
    board.paint(Ellipsoid((500.0, 0.0, 0.0), (5.0, 5.0, 5.0)), 40.0)
    assert (board.hounsfield == -1000).all()
    board.paint(Ellipsoid((-5.0, 7.0, 3.0), (4.0, 4.0, 4.0)), 40.0)
    assert board.hounsfield[0, 0, 0] == 40
    assert board.hounsfield[-1, -1, -1] == -1000


def test_slabs_do_not_change_what_is_painted(monkeypatch):
    whole, sliced = canvas(), canvas()
    ball = Ellipsoid((12.0, 20.0, 20.0), (7.0, 6.0, 9.0))
    whole.paint(ball, 40.0)
    monkeypatch.setattr("luna_pipeline.core.phantom.shapes.VOXELS_PER_SLAB", 1)
    sliced.paint(ball, 40.0)
    assert np.array_equal(whole.hounsfield, sliced.hounsfield)


@pytest.mark.parametrize(("rule", "expected"), [("over", -200), ("brightest", 40)])
def test_rule_says_which_of_two_values_stays(rule, expected):
    board = canvas()
    ball = Ellipsoid((12.0, 20.0, 20.0), (7.0, 7.0, 7.0))
    board.paint(ball, 40.0)
    board.paint(ball, -200.0, rule=rule)
    assert board.hounsfield[tuple(board.grid.nearest_voxel(ball.center_xyz))] == pytest.approx(expected)


def test_opacity_replaces_a_part_of_the_old_value():
    board = canvas()
    board.paint(Ellipsoid((12.0, 20.0, 20.0), (7.0, 7.0, 7.0)), 0.0, opacity=0.25)
    assert board.hounsfield.max() == pytest.approx(-750)
