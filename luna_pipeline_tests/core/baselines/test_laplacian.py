"""The zero rule of detection: balls are found at their place with their size, brightest first."""

from dataclasses import replace

import numpy as np
import pytest

from luna_pipeline.core.baselines.laplacian import DIAMETERS_MM, laplacian_candidates
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.lungs.mask import Lungs, tight_box
from luna_pipeline_tests.phantoms import IDENTITY

GRID = VoxelGrid((40, 60, 60), (0.8, 0.8, 1.25), (-20.0, 10.0, -100.0), IDENTITY)
BALLS = [((12.0, 20.0, 20.0), 9.0, 50), ((25.0, 40.0, 30.0), 5.0, 50), ((28.4, 18.3, 44.7), 14.0, -300)]


def lung(balls, grid=GRID):
    """Lung of -850 HU with balls of (centre, diameter in mm, HU), averaged over each voxel."""
    place = np.stack(np.indices(grid.size_irc), axis=-1)
    hounsfield = np.full(grid.size_irc, -850.0)
    for center_irc, diameter_mm, hu in balls:
        distance = np.linalg.norm((place - np.asarray(center_irc)) * grid.spacing_irc, axis=-1)
        cover = np.clip(0.5 + (diameter_mm / 2 - distance), 0, 1)
        hounsfield += cover * (hu - hounsfield)
    return hounsfield.astype(np.int16)


def lungs_of(mask, grid=GRID):
    return Lungs(mask=mask, grid=grid, volume_ml=1.0, box=tight_box(mask))


EVERYWHERE = lungs_of(np.ones(GRID.size_irc, dtype=np.bool_))


def test_balls_are_found_within_half_a_voxel_with_the_nearest_diameter_brightest_first():
    blobs = laplacian_candidates(lung(BALLS), GRID, EVERYWHERE, max_candidates=3)
    expected = GRID.voxel_to_world([center for center, _, _ in BALLS])
    order = [int(np.linalg.norm(blobs.center_xyz - center, axis=1).argmin()) for center in expected]
    assert sorted(order) == [0, 1, 2]
    assert order[2] == 2
    assert np.abs(blobs.center_xyz[order] - expected).max() < 0.5 * 1.25
    for (_, diameter_mm, _), found_mm in zip(BALLS, blobs.diameter_mm[order], strict=True):
        assert found_mm == min(DIAMETERS_MM, key=lambda mm: abs(np.log(mm / diameter_mm)))
    assert np.all(np.diff(blobs.score) <= 0)


def test_at_most_so_many_are_returned_and_none_within_another():
    noisy = lung(BALLS) + np.random.default_rng(0).normal(0, 60, GRID.size_irc).astype(np.int16)
    blobs = laplacian_candidates(noisy, GRID, EVERYWHERE, max_candidates=20)
    assert len(blobs.score) == len(blobs.diameter_mm) == len(blobs.center_xyz) == 20
    apart = np.linalg.norm(blobs.center_xyz[:, None] - blobs.center_xyz[None], axis=-1) + 100 * np.eye(20)
    reach = np.maximum.outer(blobs.diameter_mm, blobs.diameter_mm) / 2
    assert (apart > reach - 2 * 0.8).all()


def test_only_the_lungs_are_searched_and_the_wall_is_no_blob():
    mask = np.ones(GRID.size_irc, dtype=np.bool_)
    mask[:, :, 34:] = False
    hounsfield = lung(BALLS)
    hounsfield[:, :, 34:] = 50
    blobs = laplacian_candidates(hounsfield, GRID, lungs_of(mask))
    assert len(blobs.score) == 2


def test_the_brightest_is_kept_wherever_it_lies():
    upside_down = np.ascontiguousarray(lung(BALLS)[::-1])
    center_xyz = GRID.voxel_to_world((39 - 12.0, 20.0, 20.0))
    blobs = laplacian_candidates(upside_down, GRID, EVERYWHERE, max_candidates=1)
    assert np.linalg.norm(blobs.center_xyz[0] - center_xyz) < 0.7


def test_what_lies_outside_the_lungs_counts_nothing():
    mask = np.ones(GRID.size_irc, dtype=np.bool_)
    mask[:, 24:, :40] = False
    hounsfield = lung(BALLS)
    other = hounsfield.copy()
    other[~mask] = 700
    blobs, same = (laplacian_candidates(voxels, GRID, lungs_of(mask)) for voxels in (hounsfield, other))
    assert len(blobs.score) >= 2
    assert np.array_equal(blobs.score, same.score)
    assert np.array_equal(blobs.center_xyz, same.center_xyz)


def test_even_lung_has_no_blob_and_empty_lungs_none():
    assert len(laplacian_candidates(lung([]), GRID, EVERYWHERE).score) == 0
    nothing = replace(EVERYWHERE, mask=np.zeros(GRID.size_irc, dtype=np.bool_))
    assert laplacian_candidates(lung(BALLS), GRID, nothing).center_xyz.shape == (0, 3)


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="max_candidates"):
        laplacian_candidates(lung([]), GRID, EVERYWHERE, max_candidates=0)
