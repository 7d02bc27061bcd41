"""The transform between two arrays, and the share of equal voxels in their overlap."""

import numpy as np
import pytest

from luna_pipeline.core.same_scans.comparison import overlap_of
from luna_pipeline.core.same_scans.orientations import ORIENTATIONS
from luna_pipeline.core.same_scans.signatures import num_in_window, signature_of
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue

SCAN = noisy_tissue(0)
BLOCK = SCAN[4:36, 8:40, 10:50]


def compared(first: np.ndarray, second: np.ndarray):
    return overlap_of(first, second, (signature_of(first), signature_of(second)))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_a_block_is_placed_in_its_scan_in_any_orientation(orientation):
    # The block's array is turned such that the orientation takes it back.
    turned = next(each.of(BLOCK) for each in ORIENTATIONS if np.array_equal(orientation.of(each.of(BLOCK)), BLOCK))
    overlap = compared(np.ascontiguousarray(turned), SCAN)
    assert overlap is not None
    assert overlap.alignment.orientation == orientation
    assert overlap.alignment.offset_irc == (4, 8, 10)
    assert (overlap.share_equal, overlap.covered_first) == (1.0, 1.0)
    assert overlap.covered_second == pytest.approx(num_in_window(BLOCK) / num_in_window(SCAN))
    assert overlap.num_compared == num_in_window(BLOCK)


def test_two_blocks_that_overlap_are_compared_where_they_do():
    overlap = compared(SCAN[:30], SCAN[10:])
    assert overlap is not None
    assert overlap.alignment.offset_irc == (-10, 0, 0)
    assert overlap.num_compared == num_in_window(SCAN[10:30])
    assert overlap.covered_first == pytest.approx(num_in_window(SCAN[10:30]) / num_in_window(SCAN[:30]))


def test_changed_voxels_lower_the_share():
    other = SCAN.copy()
    other[:, :14] += 1
    overlap = compared(SCAN, other)
    assert overlap is not None
    assert overlap.share_equal == pytest.approx(1 - num_in_window(SCAN[:, :14]) / num_in_window(SCAN), abs=0.001)
    assert not overlap.is_same


def test_air_padding_and_saturation_do_not_count():
    scan = noisy_tissue(1, middle_hu=0)
    scan[:, :10] = -3024
    overlap = compared(scan, np.clip(scan, -1000, 400))
    assert overlap is not None
    assert (overlap.share_equal, overlap.num_compared) == (1.0, num_in_window(scan))


def test_scans_without_a_common_anchor_are_not_aligned():
    assert compared(SCAN, noisy_tissue(5)) is None


def test_an_anchor_alone_does_not_make_scans_the_same():
    place = signature_of(SCAN).anchors.places_irc[3]
    near = tuple(slice(at - 1, at + 2) for at in place)
    other = noisy_tissue(5)
    other[20:23, 20:23, 20:23] = SCAN[near]
    assert signature_of(SCAN).anchors.hashes[3] in signature_of(other).anchors.hashes
    assert compared(SCAN, other) is None
