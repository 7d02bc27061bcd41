"""What two scans are to each other, with the evidence."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from luna_pipeline.core.same_scans.pairs import Finding, compare_scans
from luna_pipeline.core.same_scans.search import suspected_pairs
from luna_pipeline.core.same_scans.signatures import signature_of
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue

SCAN = noisy_tissue(0)


def found(first: np.ndarray, second: np.ndarray) -> Finding | None:
    signatures = signature_of(first), signature_of(second)
    pairs = suspected_pairs(signatures)
    if not pairs:
        return None
    (pair,) = pairs
    return compare_scans(first, second, signatures, num_anchors=pair.num_anchors, thumbnail_hu=pair.thumbnail_hu)


def smoothed(scan: np.ndarray) -> np.ndarray:
    return np.rint(gaussian_filter(scan.astype(np.float32), 0.6)).astype(np.int16)


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (SCAN.copy(), "equal"),
        (np.clip(SCAN, -1000, 400), "equal"),
        (SCAN[:, ::-1, ::-1], "other orientation"),
        (SCAN.transpose(1, 2, 0), "other orientation"),
        (SCAN[:, 5:], "block of"),
        (smoothed(SCAN), "similar (resampled)"),
        (smoothed(SCAN)[::-1].transpose(2, 1, 0), "similar (resampled)"),
    ],
)
def test_each_kind_is_found_both_ways(other: np.ndarray, kind: str):
    for finding in (found(SCAN, other), found(other, SCAN)):
        assert finding is not None
        assert finding.kind == kind


def test_scan_a_is_the_block_whatever_the_order():
    block = SCAN[3:35, :, 20:60].transpose(1, 0, 2)
    for first, second, is_swapped in ((block, SCAN, False), (SCAN, block, True)):
        finding = found(first, second)
        assert finding is not None
        assert (finding.is_swapped, finding.axes, finding.offset_irc) == (is_swapped, "+row +index +col", (3, 0, 20))
        assert (finding.covered_a, finding.covered_b < 1) == (1.0, True)


def test_blocks_that_share_a_part_overlap():
    finding = found(SCAN[:25], SCAN[15:])
    assert finding is not None
    assert (finding.kind, finding.share_equal, finding.offset_irc) == ("overlap", 1.0, (-15, 0, 0))


def test_a_scan_with_a_changed_part_is_not_equal():
    other = SCAN.copy()
    other[:2] += 7
    finding = found(SCAN, other)
    assert finding is not None
    assert finding.kind == "similar (resampled)"
    assert finding.share_equal == pytest.approx(0.95, abs=0.01)


def test_scans_with_near_thumbnails_and_other_details_are_different():
    other = noisy_tissue(1)
    finding = compare_scans(SCAN, other, (signature_of(SCAN), signature_of(other)), num_anchors=0, thumbnail_hu=39.0)
    assert finding.kind == "different"
    assert abs(finding.correlation) < 0.5


def test_a_row_has_the_evidence_without_the_order():
    row = Finding(kind="block of", is_swapped=True, offset_irc=(1, 2, 3)).as_row()
    assert "is_swapped" not in row
    assert row["offset_irc"] == [1, 2, 3]
    assert Finding(kind="different").as_row()["offset_irc"] is None


@pytest.mark.parametrize("value", [-1000, -3024, 40, 1000])
def test_constant_and_air_blocks_never_match(value: int):
    block = np.full((32, 48, 48), value, np.int16)
    assert found(block, block.copy()) is None
    assert found(block, SCAN) is None
