"""With the edge rule ``shift`` the chunks are the tutorial's, but for the voxels that its float32 rounds otherwise."""

import numpy as np
import pytest

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.cutting import CuttingParameters, cut_chunks
from luna_pipeline_tests.core.cutouts.test_cutting import shifted_plainly
from luna_pipeline_tests.phantoms import random_hounsfield

# As the scans of LUNA16: identity, sub-millimetre pixels, slices of 0.6 to 2.5 mm.
GRIDS = [
    VoxelGrid((240, 512, 512), (0.703125, 0.703125, 1.25), (-166.0, -171.699997, -340.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
    VoxelGrid((140, 512, 512), (0.8203125, 0.8203125, 2.5), (-228.8, -210.0, -379.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
    VoxelGrid((480, 512, 512), (0.5645, 0.5645, 0.625), (-140.1, -158.3, -721.625), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
]


def rounded_in_float32(points_xyz: np.ndarray, grid: VoxelGrid) -> np.ndarray:
    """The tutorial's arithmetic: everything float32, ties to even; its direction is right for symmetric ones only."""
    single = np.float32
    direction = np.asarray(grid.direction, dtype=single).reshape(3, 3)
    origin, spacing = np.asarray(grid.origin_xyz, dtype=single), np.asarray(grid.spacing_mm, dtype=single)
    voxels_xyz = ((points_xyz.astype(single) - origin) @ np.linalg.inv(direction)) / spacing
    return np.round(voxels_xyz)[:, ::-1].astype(np.int64)


@pytest.mark.seed_defect(25)
def test_about_three_rows_in_100_000_are_rounded_otherwise():
    num_other, num_rows = 0, 0
    for seed, grid in enumerate(GRIDS):
        voxels = np.random.default_rng(seed).uniform(0, np.array(grid.size_irc) - 1, size=(200_000, 3))
        # Coordinates as LUNA16 writes them: six or so digits behind the point.
        points_xyz = grid.voxel_to_world(voxels).round(6)
        other = (rounded_in_float32(points_xyz, grid) != grid.nearest_voxel(points_xyz)).any(axis=1)
        distance = np.abs(grid.world_to_voxel(points_xyz[other]) % 1 - 0.5).min(axis=1)
        assert (distance < 1e-3).all(), "only voxels half way between two"
        num_other, num_rows = num_other + int(other.sum()), num_rows + len(points_xyz)
    assert 0 < num_other / num_rows < 2e-4


def test_all_other_chunks_are_the_tutorials_to_the_last_bit():
    grid = VoxelGrid((60, 90, 100), (0.703125, 0.703125, 1.25), (-166.0, -171.7, -340.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    hounsfield = random_hounsfield(grid.size_irc)
    voxels = np.random.default_rng(0).uniform(0, np.array(grid.size_irc) - 1, size=(300, 3))
    points_xyz = grid.voxel_to_world(voxels).round(6)
    centers = grid.nearest_voxel(points_xyz)
    np.testing.assert_array_equal(centers, rounded_in_float32(points_xyz, grid))
    chunks = cut_chunks(hounsfield, centers, CuttingParameters(edge_rule="shift")).astype(np.float32)
    for chunk, center_irc in zip(chunks, centers, strict=True):
        expected = shifted_plainly(hounsfield.astype(np.float32), center_irc, (32, 48, 48))
        np.testing.assert_array_equal(chunk, expected)
