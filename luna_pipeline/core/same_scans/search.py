"""Search of all pairs of scans that may be the same, by their signatures alone: no voxel is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.same_scans.orientations import ORIENTATIONS
from luna_pipeline.core.same_scans.signatures import ScanSignature
from luna_pipeline.core.same_scans.thumbnails import CELLS

MAX_THUMBNAIL_HU = 40.0
"""Largest root mean square difference of the thumbnails of one scan, resampled or compressed."""

MIN_SPREAD_HU = 120.0
"""Smallest standard deviation of a thumbnail that is compared: blocks of one tissue or of air look alike."""

MIN_SIDE = 24
"""Smallest side of a scan whose thumbnail is compared, in voxels: smaller ones do not fill the cells."""

_ALL_PAIRS_OF = 24


@dataclass(frozen=True)
class SuspectedPair:
    """Two scans that may be the same, by their places in the list of signatures.

    Attributes:
        first: Place of one scan.
        second: Place of the other; larger than ``first``.
        num_anchors: Anchors that both have.
        thumbnail_hu: Root mean square difference of their thumbnails in the best orientation; NaN if not near.
    """

    first: int
    second: int
    num_anchors: int
    thumbnail_hu: float


def suspected_pairs(signatures: Sequence[ScanSignature]) -> list[SuspectedPair]:
    """Return all pairs with a common anchor or with nearly equal thumbnails, sorted.

    Of an anchor that more than 24 scans share, each is paired with the next one in the list only: they are one group
    as well, and 6,000 blocks of one scan do not become 18 million pairs.
    """
    common, near = _pairs_by_anchors(signatures), _pairs_by_thumbnails(signatures)
    return [
        SuspectedPair(*pair, common.get(pair, 0), near.get(pair, float("nan"))) for pair in sorted({*common, *near})
    ]


def _pairs_by_anchors(signatures: Sequence[ScanSignature]) -> dict[tuple[int, int], int]:
    """Return the number of common anchors of each pair that has one."""
    hashes = np.concatenate([np.empty(0, np.uint64), *(each.anchors.hashes for each in signatures)])
    scans = np.repeat(np.arange(len(signatures)), [len(each.anchors.hashes) for each in signatures])
    order = np.argsort(hashes)
    hashes, scans = hashes[order], scans[order]
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]]) if len(hashes) else np.empty(0, np.intp)
    lengths = np.diff(np.r_[starts, len(hashes)])
    codes = [np.empty(0, np.int64)]
    for length in np.unique(lengths[lengths > 1]):
        sharing = np.sort(scans[starts[lengths == length][:, None] + np.arange(length)], axis=1)
        left, right = (
            np.triu_indices(length, 1) if length <= _ALL_PAIRS_OF else (np.arange(length - 1), np.arange(1, length))
        )
        codes.append((sharing[:, left] * len(signatures) + sharing[:, right]).ravel())
    pairs, counts = np.unique(np.concatenate(codes), return_counts=True)
    return {
        (int(code) // len(signatures), int(code) % len(signatures)): int(count)
        for code, count in zip(pairs, counts, strict=True)
    }


def _pairs_by_thumbnails(signatures: Sequence[ScanSignature]) -> dict[tuple[int, int], float]:
    """Return the distance in HU of each pair of scans with nearly equal thumbnails.

    Two lower bounds rule out nearly all pairs: the means over cells that the 48 orientations exchange, which are the
    same in all of them, and the means of blocks of 2 x 2 x 2 cells in each orientation.
    """
    usable = [at for at, each in enumerate(signatures) if _is_comparable(each)]
    if len(usable) < 2:
        return {}
    invariants = np.stack([_invariants(signatures[at].thumbnail) for at in usable])
    norms = (invariants**2).sum(axis=1)
    coarse = np.stack([_coarse(signatures[at].thumbnail) for at in usable])
    coarse_norms = np.square(coarse).mean(axis=(1, 2, 3))
    found: dict[tuple[int, int], float] = {}
    for row, first in enumerate(usable):
        # Both are root mean squares over all cells.
        squares = norms[row] + norms[row + 1 :] - 2 * (invariants[row + 1 :] @ invariants[row])
        others = np.flatnonzero(squares <= MAX_THUMBNAIL_HU**2) + row + 1
        if not len(others):
            continue
        turned = np.stack([each.of(coarse[row]).ravel() for each in ORIENTATIONS])
        products = coarse[others].reshape(len(others), -1) @ turned.T / turned.shape[1]
        nearest = coarse_norms[row] + coarse_norms[others] - 2 * products.max(axis=1)
        for other in others[nearest <= MAX_THUMBNAIL_HU**2]:
            second = usable[int(other)]
            distance = thumbnail_distance(signatures[first].thumbnail, signatures[second].thumbnail)
            if distance <= MAX_THUMBNAIL_HU:
                found[first, second] = distance
    return found


def thumbnail_distance(first: NDArray[np.int16], second: NDArray[np.int16]) -> float:
    """Return the smallest root mean square difference in HU over all orientations of the first thumbnail."""
    wanted = second.astype(np.float64)
    squares = (np.square(each.of(first) - wanted).mean() for each in ORIENTATIONS)
    return float(np.sqrt(min(squares)))


def _coarse(thumbnail: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return the means of blocks of 2 x 2 x 2 cells."""
    half = CELLS // 2
    return np.asarray(thumbnail.reshape(half, 2, half, 2, half, 2).mean(axis=(1, 3, 5)))


def _is_comparable(signature: ScanSignature) -> bool:
    return min(signature.size_irc) >= MIN_SIDE and float(signature.thumbnail.std()) >= MIN_SPREAD_HU


def _invariants(thumbnail: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return the mean of each class of cells, weighted so that squares sum to a mean square over all cells."""
    classes = _cell_classes()
    sizes = np.bincount(classes)
    means = np.bincount(classes, weights=thumbnail.ravel().astype(np.float64)) / sizes
    return np.asarray(means * np.sqrt(sizes / classes.size))


@cache
def _cell_classes() -> NDArray[np.intp]:
    """Return the class of each cell, flat: cells that an orientation exchanges are in one."""
    distances = [sorted(min(at, CELLS - 1 - at) for at in cell) for cell in product(range(CELLS), repeat=3)]
    return np.unique(np.asarray(distances), axis=0, return_inverse=True)[1].ravel()
