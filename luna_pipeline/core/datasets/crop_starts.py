"""First voxels of crops: around a voxel, or anywhere in the body."""

import numpy as np
from numpy.typing import NDArray

_NUM_TRIES = 8
_TISSUE_HU, _TISSUE_SHARE = -500, 0.1
# Voxels between two looked at: a crop of 32 x 64 x 64 is judged by 256.
_STEP = 8


def start_around(center_irc: NDArray[np.int64], shape_irc: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first voxel of a crop whose middle voxel is ``center_irc``."""
    return center_irc - shape_irc // 2


def drawn_start(
    rng: np.random.Generator, hounsfield: NDArray[np.int16], shape_irc: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Draw the first voxel of a crop in the body.

    Args:
        rng: Generator of the crop alone.
        hounsfield: The CT, int16 (I, R, C).
        shape_irc: Voxels of the crop.

    Returns:
        A crop whose middle lies in the CT, and a tenth of which is tissue; after eight tries any.
    """
    size = np.asarray(hounsfield.shape)
    start = size
    for _ in range(_NUM_TRIES):
        start = start_around(rng.integers(0, size), shape_irc)
        inside = tuple(
            slice(max(first, 0), max(first + length, 0), _STEP)
            for first, length in zip(start.tolist(), shape_irc.tolist(), strict=True)
        )
        if (hounsfield[inside] > _TISSUE_HU).mean() >= _TISSUE_SHARE:
            break
    return start
