"""Perceptual hash of a whole scan: mean HU of cells of its field of view, whatever its voxels and header.

A scan that was resampled, compressed with loss or filtered has other voxels, but nearly the same means.
"""

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.same_scans.anchors import WINDOW_HU

CELLS = 16
"""Cells along each axis."""


def thumbnail_of(hounsfield: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the mean HU of each of 16 x 16 x 16 cells of a scan, clipped to the lung window before.

    Args:
        hounsfield: HU, shape (I, R, C).
    """
    return np.rint(cell_means(hounsfield, (CELLS, CELLS, CELLS))).astype(np.int16)


def cell_means(hounsfield: NDArray[np.int16], num_cells: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return the mean HU of equal cells of a scan, float32 of the shape ``num_cells``.

    A voxel on the border of two cells counts in both with its parts, so that other voxel sizes give the same means.

    Args:
        hounsfield: HU, shape (I, R, C).
        num_cells: Cells along index, row, col; also more than voxels.
    """
    along_index, along_row, along_col = (
        _shares(size, number) for size, number in zip(hounsfield.shape, num_cells, strict=True)
    )
    slices = np.stack([along_row @ np.clip(plane, *WINDOW_HU).astype(np.float32) @ along_col.T for plane in hounsfield])
    return np.asarray(np.einsum("ki,irc->krc", along_index, slices, optimize=True), dtype=np.float32)


def _shares(num_voxels: int, num_cells: int) -> NDArray[np.float32]:
    """Return the share of each cell that each voxel fills, shape (cells, voxels)."""
    edges = np.linspace(0, num_voxels, num_cells + 1)
    voxels = np.arange(num_voxels)
    filled = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    return np.asarray(np.clip(filled, 0, None) * num_cells / num_voxels, dtype=np.float32)
