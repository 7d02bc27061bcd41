"""Axial views keep every voxel at its place in the patient, for all 48 orientations."""

from itertools import permutations, product

import numpy as np
import pytest

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView

UPRIGHT = np.eye(3)
ORIENTATIONS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)]


def grid_of(axes, signs, turn=UPRIGHT):
    direction = turn @ (np.eye(3)[:, list(axes)] * np.asarray(signs))
    return VoxelGrid((4, 5, 6), (0.7, 0.8, 2.5), (-10.0, 20.0, -300.0), tuple(direction.ravel()))


def rotation(degrees):
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return about_x @ about_z


@pytest.mark.parametrize("degrees", [0, 17, -30])
@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS, ids=[f"{a}{s}" for a, s in ORIENTATIONS])
def test_each_voxel_of_the_view_keeps_its_value_and_world_position(axes, signs, degrees):
    grid = grid_of(axes, signs, rotation(degrees))
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    view = AxialView(grid)
    seen = view.of(voxels)
    assert seen.shape == view.grid.size_irc
    assert seen.base is not None
    for voxel in product(*(range(size) for size in view.grid.size_irc)):
        original = view.to_original(voxel)
        assert voxels[tuple(original.astype(int))] == seen[voxel]
        assert np.allclose(grid.voxel_to_world(original), view.grid.voxel_to_world(voxel))
    assert np.array_equal(view.restored(seen), voxels)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS, ids=[f"{a}{s}" for a, s in ORIENTATIONS])
def test_index_runs_to_the_head_row_to_the_back_and_col_to_the_left(axes, signs):
    grid = AxialView(grid_of(axes, signs, rotation(20))).grid
    steps = grid.voxel_to_world(np.eye(3)) - np.asarray(grid.origin_xyz)
    index, row, col = steps
    assert index.argmax() == 2
    assert row.argmax() == 1
    assert col.argmax() == 0


def test_an_axial_ct_is_its_own_view():
    grid = grid_of((0, 1, 2), (1.0, 1.0, 1.0))
    view = AxialView(grid)
    assert view.axes == (0, 1, 2)
    assert view.is_flipped == (False, False, False)
    assert view.grid == grid
