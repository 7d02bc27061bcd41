"""What two scans are to each other, by their voxels: the rows of the table ``same_scans``."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.same_scans.comparison import Overlap, overlap_of
from luna_pipeline.core.same_scans.search import MAX_THUMBNAIL_HU
from luna_pipeline.core.same_scans.signatures import ScanSignature
from luna_pipeline.core.same_scans.similarity import MIN_CORRELATION, similarity_of

EQUAL, OTHER_ORIENTATION, BLOCK_OF, OVERLAP = "equal", "other orientation", "block of", "overlap"
SIMILAR, DIFFERENT, NOT_COMPARED = "similar (resampled)", "different", "not compared"
SAME_KINDS = (EQUAL, OTHER_ORIENTATION, BLOCK_OF, OVERLAP, SIMILAR)
"""Kinds of pairs of the same scan. ``block of``: scan a is a block of b; ``overlap``: both are blocks of a third."""

KIND_WORDS = {
    EQUAL: "equal to",
    OTHER_ORIENTATION: "in another orientation than",
    BLOCK_OF: "a block of",
    OVERLAP: "partly the same as",
    SIMILAR: "a resampled copy of",
}

_WHOLE = 0.99
_ALL_EQUAL = 0.999


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What two scans are to each other, and the evidence.

    Attributes:
        kind: One of ``SAME_KINDS``, or ``different``.
        is_swapped: Whether the first scan is scan b of the pair, because the second is a block of it.
        share_equal: Share of equal voxels of the overlap, see ``Overlap``; NaN where nothing could be aligned.
        num_compared: Number of the compared voxels.
        covered_a: Share of scan a's voxels within the lung window that lie in the overlap.
        covered_b: The same of scan b.
        correlation: Correlation of details of the whole scans; NaN where they were compared exactly.
        num_anchors: Number of common anchors.
        axes: Axes of scan a along scan b's index, row and col, such as ``+index -row -col``; empty if not known.
        offset_irc: Voxel of scan b at which scan a begins, in the orientation of b; None if not aligned exactly.
    """

    kind: str
    is_swapped: bool = False
    share_equal: float = float("nan")
    num_compared: int = 0
    covered_a: float = float("nan")
    covered_b: float = float("nan")
    correlation: float = float("nan")
    num_anchors: int = 0
    axes: str = ""
    offset_irc: tuple[int, int, int] | None = None

    def as_row(self) -> dict[str, object]:
        """Return the evidence as a part of a table's row."""
        row = {name: value for name, value in asdict(self).items() if name != "is_swapped"}
        return row | {"offset_irc": None if self.offset_irc is None else list(self.offset_irc)}


def compare_scans(
    first: NDArray[np.int16],
    second: NDArray[np.int16],
    signatures: tuple[ScanSignature, ScanSignature],
    *,
    num_anchors: int,
    thumbnail_hu: float,
) -> Finding:
    """Compare two suspected scans: exactly where they have common anchors, else their details.

    Args:
        first: HU, shape (I, R, C).
        second: HU of the other scan.
        signatures: Signatures of both.
        num_anchors: Number of common anchors.
        thumbnail_hu: Difference of their thumbnails in HU; NaN if not near.
    """
    overlap = overlap_of(first, second, signatures) if num_anchors else None
    if overlap is not None and overlap.is_same:
        kind = _kind_of(overlap)
        if kind == BLOCK_OF and overlap.covered_first < overlap.covered_second:
            # The second one is the block: aligned the other way, so that the transform is the block's.
            swapped = overlap_of(second, first, signatures[::-1])
            if swapped is not None and swapped.is_same:
                return _finding(swapped, kind, num_anchors, is_swapped=True)
        return _finding(overlap, kind, num_anchors, is_swapped=False)
    # A NaN is not near.
    if thumbnail_hu <= MAX_THUMBNAIL_HU:
        orientation, correlation = similarity_of(first, second)
        kind = SIMILAR if correlation >= MIN_CORRELATION else DIFFERENT
        return Finding(kind=kind, correlation=correlation, num_anchors=num_anchors, axes=str(orientation))
    share = float("nan") if overlap is None else overlap.share_equal
    return Finding(kind=DIFFERENT, share_equal=share, num_anchors=num_anchors)


def _kind_of(overlap: Overlap) -> str:
    is_whole = [covered >= _WHOLE for covered in (overlap.covered_first, overlap.covered_second)]
    if all(is_whole):
        if overlap.share_equal < _ALL_EQUAL:
            return SIMILAR
        return EQUAL if overlap.alignment.orientation.is_identity else OTHER_ORIENTATION
    return BLOCK_OF if any(is_whole) else OVERLAP


def _finding(overlap: Overlap, kind: str, num_anchors: int, *, is_swapped: bool) -> Finding:
    return Finding(
        kind=kind,
        is_swapped=is_swapped,
        share_equal=overlap.share_equal,
        num_compared=overlap.num_compared,
        covered_a=overlap.covered_first,
        covered_b=overlap.covered_second,
        num_anchors=num_anchors,
        axes=str(overlap.alignment.orientation),
        offset_irc=overlap.alignment.offset_irc,
    )
