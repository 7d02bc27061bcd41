"""Blocks of voxels: their size, their means, and the way back to voxels."""

import numpy as np
import pytest

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.lungs.coarse import CoarseGrid
from luna_pipeline.core.lungs.mask import tight_box
from luna_pipeline.core.lungs.morphology import closed, components, grown, without_holes
from luna_pipeline_tests.phantoms import IDENTITY

GRID = VoxelGrid((40, 512, 512), (0.7, 0.7, 1.0), (0.0, 0.0, 0.0), IDENTITY)
SMALL = CoarseGrid(VoxelGrid((20, 30, 31), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY))


@pytest.fixture
def blocks(monkeypatch):
    """Blocks of 3 x 3 x 3 voxels; one col is left out."""
    monkeypatch.setattr("luna_pipeline.core.lungs.coarse.VOXELS_ACROSS", 10)
    assert SMALL.strides_irc == (3, 3, 3)
    return SMALL


@pytest.mark.parametrize(
    ("size_irc", "spacing_mm", "strides_irc"),
    [
        ((40, 512, 512), (0.7, 0.7, 1.0), (2, 3, 3)),
        ((40, 512, 512), (0.7, 0.7, 5.0), (1, 3, 3)),
        ((64, 64, 64), (4.0, 4.0, 4.0), (1, 1, 1)),
        ((512, 512, 40), (5.0, 0.7, 0.7), (3, 3, 1)),
    ],
)
def test_blocks_are_about_as_long_in_all_directions(size_irc, spacing_mm, strides_irc):
    assert CoarseGrid(VoxelGrid(size_irc, spacing_mm, (0.0, 0.0, 0.0), IDENTITY)).strides_irc == strides_irc


def test_a_limit_in_mm_is_not_exceeded():
    assert CoarseGrid(GRID, max_block_mm=1.5).strides_irc == (1, 2, 2)


def test_means_are_those_of_clipped_voxels(blocks):
    hounsfield = np.random.default_rng(0).integers(-3000, 3000, (20, 30, 31)).astype(np.int16)
    averaged = blocks.averaged_hu(hounsfield)
    assert averaged.shape == (6, 10, 10)
    assert averaged[2, 3, 4] == pytest.approx(np.clip(hounsfield[6:9, 9:12, 12:15], -1024, 600).mean(), abs=1e-3)
    assert blocks.shares(hounsfield > 0)[5, 9, 9] == pytest.approx((hounsfield[15:18, 27:30, 27:30] > 0).mean())


def test_an_enlarged_mask_lies_where_its_blocks_are(blocks):
    mask = np.zeros((20, 30, 31), dtype=np.bool_)
    mask[6:12, 9:21, 12:18] = True
    enlarged = blocks.enlarged(blocks.shares(mask) > 0.5)
    assert tight_box(enlarged) == (slice(6, 12), slice(9, 21), slice(12, 18))
    # Edges are rounded.
    assert 0.8 * mask.sum() < enlarged.sum() < mask.sum()
    np.testing.assert_allclose(np.argwhere(enlarged).mean(axis=0), np.argwhere(mask).mean(axis=0), atol=1e-9)
    np.testing.assert_array_equal(blocks.to_fine(np.array([2.0, 3.0, 4.0])), [7.0, 10.0, 13.0])


def test_an_enlarged_mask_reaches_the_end_of_the_ct(blocks):
    assert blocks.enlarged(np.ones((6, 10, 10), dtype=np.bool_)).all()


def test_growth_is_in_mm_along_each_axis():
    mask = np.zeros((21, 21, 21), dtype=np.bool_)
    mask[10, 10, 10] = True
    larger = grown(mask, 6.0, np.array([5.0, 3.0, 1.0]))
    reached = [np.flatnonzero(larger.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    assert [(places[0], places[-1]) for places in reached] == [(9, 11), (8, 12), (4, 16)]
    assert not grown(np.zeros_like(mask), 6.0, np.ones(3)).any()


def test_closing_fills_gaps_narrower_than_the_ball_and_no_wider_ones():
    mask = np.ones((5, 40, 40), dtype=np.bool_)
    mask[:, :, 10:15] = False
    mask[:, :, 25:37] = False
    filled = closed(mask, 4.0, np.ones(3))
    assert filled[:, 8:32, 10:15].all()
    assert not filled[:, 8:32, 29:33].any()


def test_only_small_holes_within_a_slice_are_filled():
    mask = np.ones((3, 20, 20), dtype=np.bool_)
    mask[1, 3:5, 3:5] = False
    mask[:, 8:16, 8:16] = False
    mask[:, 18:, 0] = False
    filled = without_holes(mask, 10)
    assert filled[1, 3:5, 3:5].all()
    assert not filled[:, 8:16, 8:16].any()
    assert not filled[:, 18:, 0].any()


def test_components_within_slices_are_separate():
    mask = np.ones((3, 4, 4), dtype=np.bool_)
    assert len(components(mask)[1]) == 2
    numbers, counts = components(mask, is_in_plane=True)
    assert counts.tolist() == [0, 16, 16, 16]
    assert len(np.unique(numbers)) == 3
