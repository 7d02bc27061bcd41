"""Exact comparison of two scans: the transform between their arrays, and the share of equal voxels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.same_scans.anchors import WINDOW_HU
from luna_pipeline.core.same_scans.orientations import ORIENTATIONS, Orientation
from luna_pipeline.core.same_scans.signatures import ScanSignature

MIN_SHARE_EQUAL = 0.9
"""Share of equal voxels from which an overlap is one of the same scan. Of different scans about 1 % are equal."""

MIN_VOXELS = 200
"""Smallest number of compared voxels."""

_MAX_MATCHES = 512
_SLAB = 16
# Larger than any offset, so that three of them fit one number.
_FAR = 1 << 17
# Half the side of the box around an anchor that is compared before the scans are.
_NEAR = 6
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Alignment:
    """Where one array lies in another.

    Attributes:
        orientation: Orientation of the first array in the second.
        offset_irc: Voxel of the second array at which the oriented first array begins; also negative.
    """

    orientation: Orientation
    offset_irc: tuple[int, int, int]


@dataclass(frozen=True)
class Overlap:
    """Result of an exact comparison.

    Attributes:
        alignment: The transform.
        share_equal: Share of equal voxels, among those of the overlap that are within the lung window in either scan;
            HU are clipped to the window, so that padding and saturation do not count.
        num_compared: Number of these voxels.
        covered_first: Share of the first scan's voxels within the window that lie in the overlap.
        covered_second: The same of the second scan.
    """

    alignment: Alignment
    share_equal: float
    num_compared: int
    covered_first: float
    covered_second: float

    @property
    def is_same(self) -> bool:
        """Whether the overlap shows the same scan."""
        return self.share_equal >= MIN_SHARE_EQUAL and self.num_compared >= MIN_VOXELS


def overlap_of(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    signatures: tuple[ScanSignature, ScanSignature],
) -> Overlap | None:
    """Align two scans by their common anchors and compare every voxel of the overlap.

    Args:
        first: HU, shape (I, R, C).
        second: HU of the other scan, any shape.
        signatures: Signatures of both.

    Returns:
        The overlap with the largest share of equal voxels; None if no alignment has equal voxels around its anchor.
    """
    best: Overlap | None = None
    for alignment, place in _alignments(*signatures):
        if _share_near(first, second, alignment, place) < MIN_SHARE_EQUAL:
            continue
        found = _compared(first, second, alignment, signatures)
        if best is None or found.share_equal > best.share_equal:
            best = found
        if found.is_same:
            break
    return best


def _alignments(first: ScanSignature, second: ScanSignature) -> Iterator[tuple[Alignment, NDArray[np.int64]]]:
    """Yield the alignments with the most votes of common anchors, and the place of one anchor in the second scan."""
    _, at_first, at_second = np.intersect1d(
        first.anchors.hashes, second.anchors.hashes, assume_unique=True, return_indices=True
    )
    here = first.anchors.places_irc[at_first[:_MAX_MATCHES]].astype(np.int64)
    there = second.anchors.places_irc[at_second[:_MAX_MATCHES]].astype(np.int64)
    offsets = np.stack([there - orientation.places(here, first.size_irc) for orientation in ORIENTATIONS])
    if not len(there):
        return
    codes = (offsets + _FAR) @ np.array([4 * _FAR * _FAR, 2 * _FAR, 1])
    voted = [np.unique(row, return_index=True, return_counts=True) for row in codes]
    most = max(int(counts.max()) for _, _, counts in voted)
    for orientation, of_orientation, (_, at, counts) in zip(ORIENTATIONS, offsets, voted, strict=True):
        for row in at[counts == most]:
            index, along_row, along_col = (int(value) for value in of_orientation[row])
            yield Alignment(orientation, (index, along_row, along_col)), there[row]


def _share_near(
    first: NDArray[np.int16], second: NDArray[np.int16], alignment: Alignment, place: NDArray[np.int64]
) -> float:
    """Return the share of equal voxels in a small box around an anchor."""
    oriented = alignment.orientation.of(first)
    _, there = _overlapping(oriented.shape, second.shape, alignment.offset_irc)
    lows = [max(box.start, int(at) - _NEAR) for box, at in zip(there, place, strict=True)]
    highs = [min(box.stop, int(at) + _NEAR + 1) for box, at in zip(there, place, strict=True)]
    near = tuple(slice(low, high) for low, high in zip(lows, highs, strict=True))
    moved = tuple(
        slice(low - offset, high - offset) for low, high, offset in zip(lows, highs, alignment.offset_irc, strict=True)
    )
    num_equal, num_compared, *_ = _counts(oriented[moved], second[near])
    return num_equal / max(1, num_compared)


def _compared(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    alignment: Alignment,
    signatures: tuple[ScanSignature, ScanSignature],
) -> Overlap:
    oriented = alignment.orientation.of(first)
    here, there = _overlapping(oriented.shape, second.shape, alignment.offset_irc)
    one, other = oriented[here], second[there]
    slabs = [_counts(one[at : at + _SLAB], other[at : at + _SLAB]) for at in range(0, one.shape[0], _SLAB)]
    num_equal, num_compared, num_first, num_second = (sum(counts) for counts in zip(*slabs, strict=True))
    return Overlap(
        alignment,
        num_equal / max(1, num_compared),
        num_compared,
        num_first / max(1, signatures[0].num_in_window),
        num_second / max(1, signatures[1].num_in_window),
    )


def _overlapping(first: tuple[int, ...], second: tuple[int, ...], offset: tuple[int, int, int]) -> tuple[Box, Box]:
    """Return the overlap of two arrays as a box of each."""
    lows = [max(0, at) for at in offset]
    highs = [min(there, here + at) for here, there, at in zip(first, second, offset, strict=True)]
    there = tuple(slice(low, high) for low, high in zip(lows, highs, strict=True))
    here = tuple(slice(low - at, high - at) for low, high, at in zip(lows, highs, offset, strict=True))
    return (here[0], here[1], here[2]), (there[0], there[1], there[2])


def _counts(first: NDArray[np.int16], second: NDArray[np.int16]) -> tuple[int, int, int, int]:
    """Return the numbers of equal, of compared, and of each scan's voxels within the window."""
    one, other = np.clip(first, *WINDOW_HU), np.clip(second, *WINDOW_HU)
    is_first = (one > WINDOW_HU[0]) & (one < WINDOW_HU[1])
    is_second = (other > WINDOW_HU[0]) & (other < WINDOW_HU[1])
    is_compared = is_first | is_second
    counts = (is_compared & (one == other), is_compared, is_first, is_second)
    num_equal, num_compared, num_first, num_second = (int(np.count_nonzero(each)) for each in counts)
    return num_equal, num_compared, num_first, num_second
