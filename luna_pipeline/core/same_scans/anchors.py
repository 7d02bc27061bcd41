"""Anchors of a scan: voxels chosen by their neighbourhood alone, so that every copy and every block has the same ones.

An anchor is a local maximum of HU whose 27 voxels lie in the lung window. Its hash depends on the values only, not on
the array's axes: the voxels at one distance from the centre (6 faces, 12 edges, 8 corners) form a set without an order.
The same neighbourhood has the same hash under all 48 flips and permutations, whatever the header says. Of all maxima
those whose hash falls into one of ``_SAMPLING`` parts are kept. A copy keeps the same ones, because the hash decides.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

WINDOW_HU = (-1000, 400)
"""All voxels of an anchor lie between these HU: blocks that were clipped to a lung window keep their anchors."""

MAX_ANCHORS = 20_000
"""Anchors of a scan. Of more, those with the smallest hashes are kept."""

_SAMPLING = 64
_SLAB = 24
_SHELLS = tuple(
    np.array([step for step in product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == distance])
    for distance in (1, 2, 3)
)


@dataclass(frozen=True, eq=False)
class Anchors:
    """Anchors of a scan, sorted by hash; a hash that occurs twice in the scan is left out.

    Attributes:
        hashes: Shape (N,), ascending, each once.
        places_irc: Voxel of each anchor: index, row, col of the array as read, shape (N, 3).
    """

    hashes: NDArray[np.uint64]
    places_irc: NDArray[np.int16]


def anchors_of(hounsfield: NDArray[np.int16]) -> Anchors:
    """Return the anchors of a scan.

    Args:
        hounsfield: HU, shape (I, R, C).

    Returns:
        About one in 8,000 voxels of a chest CT; none where HU are constant, saturated, or thinner than 3 voxels.
    """
    found = [
        _anchors_of_slab(hounsfield[start : start + _SLAB + 2], start)
        for start in range(0, max(0, hounsfield.shape[0] - 2), _SLAB)
        if min(hounsfield.shape) > 2
    ]
    hashes = np.concatenate([np.empty(0, np.uint64), *(part[0] for part in found)])
    places = np.concatenate([np.empty((0, 3), np.int16), *(part[1] for part in found)])
    unique, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    is_single = counts == 1
    return Anchors(unique[is_single][:MAX_ANCHORS], places[first[is_single]][:MAX_ANCHORS])


def _anchors_of_slab(slab: NDArray[np.int16], start: int) -> tuple[NDArray[np.uint64], NDArray[np.int16]]:
    """Return hashes (N,) and places (N, 3) of a slab's anchors; its first and last slice are neighbours only."""
    values = np.ascontiguousarray(slab)
    centre = values[1:-1, 1:-1, 1:-1]
    is_top = (centre == _box_maximum(values)) & (centre > WINDOW_HU[0]) & (centre < WINDOW_HU[1])
    places = np.argwhere(is_top) + 1
    flat, strides = values.ravel(), np.array([values.shape[1] * values.shape[2], values.shape[2], 1])
    at = places @ strides
    faces = flat[at[:, None] + _SHELLS[0] @ strides]
    # Cheap hash first: most maxima are left out before their other 20 neighbours are read.
    first = _mixed(_shell_hash(faces, 1) + _table(0)[_index(flat[at])])
    is_kept = first % np.uint64(_SAMPLING) == 0
    at, places, faces, first = at[is_kept], places[is_kept], faces[is_kept], first[is_kept]
    edges, corners = (flat[at[:, None] + shell @ strides] for shell in _SHELLS[1:])
    around = np.concatenate([faces, edges, corners], axis=1)
    is_strict = (around.max(axis=1, initial=-32768) < flat[at]) & (around.min(axis=1, initial=32767) > WINDOW_HU[0])
    hashes = _mixed(first + _shell_hash(edges, 2) + _mixed(_shell_hash(corners, 3)))
    places[:, 0] += start
    return hashes[is_strict], places[is_strict].astype(np.int16)


def _box_maximum(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the maximum of the 27 voxels around each inner voxel."""
    along = np.maximum(np.maximum(values[:-2], values[1:-1]), values[2:])
    along = np.maximum(np.maximum(along[:, :-2], along[:, 1:-1]), along[:, 2:])
    return np.maximum(np.maximum(along[:, :, :-2], along[:, :, 1:-1]), along[:, :, 2:])


def _shell_hash(values: NDArray[np.int16], salt: int) -> NDArray[np.uint64]:
    """Return a hash (N,) of each row's values (N, K), whatever their order."""
    return np.asarray(_table(salt)[_index(values)].sum(axis=1, dtype=np.uint64))


def _index(values: NDArray[np.int16]) -> NDArray[np.intp]:
    return values.astype(np.intp) + 32768


@cache
def _table(salt: int) -> NDArray[np.uint64]:
    """Return a pseudo-random number for each int16, the same on every machine."""
    return _mixed(np.arange(65536, dtype=np.uint64) + np.uint64(65536 * (salt + 1)))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
