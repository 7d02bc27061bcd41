"""Anchors depend on the voxels' values only: neither on axes, nor on the place in the array, nor on saturation."""

from itertools import permutations, product

import numpy as np
import pytest

from luna_pipeline.core.same_scans import anchors
from luna_pipeline.core.same_scans.anchors import MAX_ANCHORS, Anchors, anchors_of
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue

SCAN = noisy_tissue(0)


@pytest.fixture
def all_maxima(monkeypatch: pytest.MonkeyPatch):
    """Keep every maximum, not one in 64."""
    monkeypatch.setattr(anchors, "_SAMPLING", 1)


def strict_maxima(hounsfield: np.ndarray) -> set[tuple[int, int, int]]:
    """Find the anchors voxel by voxel."""
    found = set()
    for place in product(*(range(1, size - 1) for size in hounsfield.shape)):
        box = hounsfield[tuple(slice(at - 1, at + 2) for at in place)]
        is_only = (box == box[1, 1, 1]).sum() == 1 and box.max() == box[1, 1, 1]
        if is_only and box.min() > -1000 and box.max() < 400:
            found.add(place)
    return found


def places_of(found: Anchors) -> set[tuple[int, ...]]:
    return {tuple(place) for place in found.places_irc.tolist()}


def test_anchors_are_the_strict_maxima_whose_27_voxels_lie_in_the_window(all_maxima):
    # Longer than a slab of 24 slices, so that maxima at its border are found once.
    scan = noisy_tissue(1, (54, 9, 10), middle_hu=-700)
    assert places_of(anchors_of(scan)) == strict_maxima(scan)
    assert scan.min() < -1000


def test_one_in_64_maxima_is_kept():
    scan = noisy_tissue(0, (30, 60, 60))
    share = len(anchors_of(scan).hashes) / len(strict_maxima(scan))
    assert 0.5 / 64 < share < 2 / 64


def test_all_48_orientations_have_the_same_hashes():
    wanted = anchors_of(SCAN).hashes
    assert len(wanted) > 8
    for axes, steps in product(permutations(range(3)), product((1, -1), repeat=3)):
        turned = SCAN.transpose(axes)[:: steps[0], :: steps[1], :: steps[2]]
        np.testing.assert_array_equal(anchors_of(turned).hashes, wanted)


def test_a_block_has_the_anchors_of_its_inner_voxels_at_moved_places():
    whole, block = anchors_of(SCAN), anchors_of(SCAN[7:30, 5:50, 11:60])
    start = np.array([7, 5, 11])
    inner = ((whole.places_irc > start) & (whole.places_irc < start + np.array([23, 45, 49]) - 1)).all(axis=1)
    np.testing.assert_array_equal(block.hashes, whole.hashes[inner])
    np.testing.assert_array_equal(block.places_irc + start, whole.places_irc[inner])


def test_clipping_and_padding_beyond_the_window_change_no_anchor():
    scan = noisy_tissue(2, middle_hu=0)
    scan[:, :5] = -2000
    clipped, padded = np.clip(scan, -1000, 400), np.where(scan == -2000, -3024, scan).astype(np.int16)
    for other in (clipped, padded):
        np.testing.assert_array_equal(anchors_of(other).hashes, anchors_of(scan).hashes)


def test_any_of_the_27_voxels_changes_the_hash(all_maxima):
    scan = np.arange(27, dtype=np.int16).reshape(3, 3, 3)
    scan[1, 1, 1] = 99
    (wanted,) = anchors_of(scan).hashes
    for place in product(range(3), repeat=3):
        other = scan.copy()
        other[place] -= 1
        (found,) = anchors_of(other).hashes
        assert found != wanted, place


@pytest.mark.parametrize("value", [-2000, -1000, 0, 400, 3071])
def test_constant_blocks_have_no_anchor(value: int):
    assert len(anchors_of(np.full((8, 8, 8), value, np.int16)).hashes) == 0


@pytest.mark.parametrize("shape", [(2, 9, 9), (9, 1, 9), (1, 1, 1)])
def test_blocks_thinner_than_a_neighbourhood_have_no_anchor(shape):
    assert len(anchors_of(np.zeros(shape, np.int16)).places_irc) == 0


def test_a_neighbourhood_that_occurs_twice_is_no_anchor(all_maxima):
    scan = noisy_tissue(4, (16, 24, 24))
    once = anchors_of(scan).hashes
    assert len(once) > 3
    assert not set(once.tolist()) & set(anchors_of(np.concatenate([scan, scan])).hashes.tolist())


def test_the_smallest_hashes_are_kept_of_too_many(all_maxima, monkeypatch):
    whole = anchors_of(SCAN)
    monkeypatch.setattr(anchors, "MAX_ANCHORS", 100)
    assert MAX_ANCHORS == 20_000
    np.testing.assert_array_equal(anchors_of(SCAN).hashes, whole.hashes[:100])
