"""Grouping of a segmentation into findings: centres, sizes, merging, limits."""

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.diagnosis.grouping import group, long_axis_mm
from luna_pipeline.core.diagnosis.recipes import book, default
from luna_pipeline_tests.phantoms import random_direction

GRID = VoxelGrid((40, 60, 80), (0.5, 0.75, 1.25), (10.0, -20.0, 30.0), random_direction(3))
WHOLE = (slice(0, 40), slice(0, 60), slice(0, 80))


def balls(*centers_and_radii, grid=GRID, score=0.9) -> np.ndarray:
    """Scores of balls given by a voxel with fractions and a radius in mm."""
    scores = np.zeros(grid.size_irc, dtype=np.float32)
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.size_irc), indexing="ij"), axis=-1)
    for number, (center_irc, radius_mm) in enumerate(centers_and_radii):
        distance_mm = np.linalg.norm((voxels - center_irc) * grid.spacing_irc, axis=-1)
        scores[distance_mm <= radius_mm] = score - 0.1 * number
    return scores


def grouped(scores, *, recipe=None, box=WHOLE, **changes):
    return group(scores[box], box=box, grid_axial=GRID, recipe=(recipe or default()).with_changes(changes))


def test_balls_on_an_anisotropic_grid_have_their_centres_and_diameters():
    centers = ((12.3, 20.4, 25.0), (26.0, 38.8, 55.5))
    findings = grouped(balls((centers[0], 6.0), (centers[1], 4.0)))
    assert [round(finding.score, 6) for finding in findings] == [0.9, 0.8]
    for finding, center_irc, radius_mm in zip(findings, centers, (6.0, 4.0), strict=True):
        np.testing.assert_allclose(finding.center_irc, center_irc, atol=0.1)
        np.testing.assert_allclose(finding.center_xyz, GRID.voxel_to_world(finding.center_irc), atol=1e-9)
        assert finding.diameter_mm == pytest.approx(2 * radius_mm, rel=0.02)
        assert finding.volume_mm3 == pytest.approx(4 / 3 * math.pi * radius_mm**3, rel=0.05)
        assert 2 * radius_mm - 0.5 <= finding.long_axis_mm <= 2 * radius_mm + 0.75
        assert finding.mask.sum() * np.prod(GRID.spacing_mm) == pytest.approx(finding.volume_mm3)
        assert finding.mask.any(axis=(1, 2)).all()


def test_masks_lie_where_the_scores_do_and_a_box_changes_nothing():
    scores = balls(((12.0, 20.0, 25.0), 6.0), ((26.0, 38.0, 55.0), 4.0))
    box = (slice(3, 35), slice(5, 55), slice(7, 75))
    whole, boxed = grouped(scores), grouped(scores, box=box)
    painted = np.zeros(scores.shape, dtype=bool)
    for one, other in zip(whole, boxed, strict=True):
        assert one.center_irc == pytest.approx(other.center_irc, abs=1e-9)
        assert one.mask_start_irc == other.mask_start_irc
        np.testing.assert_array_equal(one.mask, other.mask)
        place = tuple(
            slice(start, start + size) for start, size in zip(one.mask_start_irc, one.mask.shape, strict=True)
        )
        painted[place] |= one.mask
    np.testing.assert_array_equal(painted, scores > 0.5)


def test_only_scores_above_the_threshold_count():
    scores = balls(((12.0, 20.0, 25.0), 6.0), score=0.5)
    assert grouped(scores) == []
    assert len(grouped(scores, segmentation_threshold=0.4)) == 1
    assert grouped(np.zeros(GRID.size_irc, dtype=np.float32)) == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_findings_are_merged_by_the_gap_between_their_surfaces_in_mm(axis: int):
    spacing_mm = GRID.spacing_irc[axis]
    for num_between in (1, 2, 3):
        scores = np.zeros(GRID.size_irc, dtype=np.float32)
        place, step = np.array([15, 20, 25]), np.eye(3, dtype=int)[axis]
        scores[tuple(place)], scores[tuple(place + (num_between + 1) * step)] = 0.9, 0.8
        gap_mm = num_between * spacing_mm
        assert len(grouped(scores, merge_mm=gap_mm - 0.01, min_diameter_mm=0.0)) == 2
        (merged,) = grouped(scores, merge_mm=gap_mm + 0.01, min_diameter_mm=0.0)
        assert merged.score == pytest.approx(0.9)
        assert merged.mask.sum() == 2


def test_voxels_that_share_a_corner_are_merged_unless_merging_is_off():
    scores = np.zeros(GRID.size_irc, dtype=np.float32)
    scores[10, 10, 10] = scores[11, 11, 11] = 0.9
    assert len(grouped(scores, min_diameter_mm=0.0, merge_mm=0.01)) == 1
    assert len(grouped(scores, min_diameter_mm=0.0, merge_mm=0.0)) == 2


def test_merging_joins_chains_and_equals_a_search_through_all_pairs():
    random = np.random.default_rng(0)
    scores = np.where(random.random(GRID.size_irc) > 0.9995, 0.9, 0.0).astype(np.float32)
    scores[0, 0, 0] = scores[-1, -1, -1] = 0.9
    merge_mm = 2.6
    voxels = np.argwhere(scores > 0)
    gap = np.maximum(np.abs(voxels[:, None] - voxels[None]) - 1, 0) * GRID.spacing_irc
    near = np.sqrt((gap**2).sum(-1)) <= merge_mm
    expected = connected_components(near, directed=False)[0]
    assert 2 < expected < len(voxels)
    assert len(grouped(scores, merge_mm=merge_mm, min_diameter_mm=0.0)) == expected


def test_large_findings_are_merged_by_their_surfaces_too():
    scores = balls(((12.0, 20.0, 25.0), 6.0), ((12.0, 40.0, 25.0), 6.0))
    gap_mm = 20 * 0.75 - 12.0
    assert len(grouped(scores, merge_mm=gap_mm - 1.0)) == 2
    assert len(grouped(scores, merge_mm=gap_mm + 1.0)) == 1


def test_small_findings_are_dropped_and_only_the_strongest_are_kept():
    scores = balls(((8.0, 10.0, 15.0), 3.0), ((20.0, 30.0, 40.0), 3.0), ((30.0, 45.0, 60.0), 3.0))
    scores[35, 5, 5] = 1.0
    assert len(grouped(scores)) == 3
    assert len(grouped(scores, min_diameter_mm=0.0)) == 4
    assert [round(one.score, 6) for one in grouped(scores, max_findings=2)] == [0.9, 0.8]


def test_the_books_rule_erodes_once_and_weighs_centres_by_density():
    scores = balls(((12.0, 20.0, 25.0), 6.0), ((26.0, 38.0, 55.0), 4.0))
    hounsfield = np.random.default_rng(1).integers(-1200, 1500, GRID.size_irc).astype(np.int16)
    findings = group(scores, box=WHOLE, grid_axial=GRID, recipe=book(), hounsfield_axial=hounsfield)
    labels, count = ndimage.label(ndimage.binary_erosion(scores > 0.5))
    centers = ndimage.center_of_mass(hounsfield.clip(-1000, 1000) + 1001.0, labels, range(1, count + 1))
    np.testing.assert_allclose(sorted(one.center_irc for one in findings), sorted(centers), atol=1e-9)
    with pytest.raises(ValueError, match="got none"):
        grouped(scores, recipe=book())


def test_scores_of_another_box_are_refused():
    with pytest.raises(ValueError, match="searched box"):
        group(np.zeros((3, 4, 5), dtype=np.float32), box=WHOLE, grid_axial=GRID, recipe=default())


def test_the_longest_axis_is_that_of_the_slice_with_the_longest():
    mask = np.zeros((3, 20, 20), dtype=bool)
    mask[0, 5, 3:7] = True
    mask[1, range(2, 12), range(2, 12)] = True
    mask[:, 15, 15] = True
    expected = math.hypot(14 * 0.75, 14 * 0.5)
    assert long_axis_mm(mask, row_mm=0.75, col_mm=0.5) == pytest.approx(expected, rel=0.05)
    assert long_axis_mm(mask[:1, :10], row_mm=0.75, col_mm=0.5) == pytest.approx(2.0, rel=1e-3)


def test_more_components_than_sixteen_bits_are_kept_apart():
    scores = np.zeros((82, 82, 82), dtype=np.float32)
    scores[::2, ::2, ::2] = 0.6
    scores[-2, -2, -2] = 0.9
    grid = VoxelGrid(scores.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    box = tuple(slice(0, size) for size in scores.shape)
    recipe = default().with_changes(merge_mm=0.0, min_diameter_mm=0.0, max_findings=3)
    findings = group(scores, box=box, grid_axial=grid, recipe=recipe)
    assert 41**3 > 2**16
    assert findings[0].center_irc == (80, 80, 80)
    assert [finding.center_irc for finding in findings[1:]] == [(0, 0, 0), (0, 0, 2)]
    assert {int(finding.mask.sum()) for finding in findings} == {1}
    (merged,) = group(scores, box=box, grid_axial=grid, recipe=recipe.with_changes(merge_mm=1.0))
    assert merged.mask.sum() == 41**3
