"""Coarse grid on which lungs are searched, and the way back to the CT's voxels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid

VOXELS_ACROSS = 170
"""Aimed number of coarse voxels along the wider side of an axial slice: about 2 mm for an adult."""

CLIPPED_HU = (-1024, 600)
"""HU outside are clipped before averaging: padding would count as more than air, metal as more than bone."""


@dataclass(frozen=True)
class CoarseGrid:
    """Blocks of voxels of an axial CT; voxels beyond the last whole block are left out.

    The length of a block follows the field of view, not mm, so that a small chest is seen as finely as a large one.

    Attributes:
        fine: Grid of the CT in axial view.
        max_block_mm: Upper limit of a block's length, where voxels are shorter.
    """

    fine: VoxelGrid
    max_block_mm: float = np.inf

    @property
    def strides_irc(self) -> tuple[int, int, int]:
        """Voxels of a block along index, row, col."""
        fine_mm = self.fine.spacing_irc
        aimed_mm = min(float((fine_mm * self.fine.size_irc)[1:].max()) / VOXELS_ACROSS, self.max_block_mm)
        nearest = int if self.max_block_mm < np.inf else round
        index, row, col = (max(1, nearest(aimed_mm / float(mm) + 1e-6)) for mm in fine_mm)
        return min(index, self.fine.size_irc[0]), min(row, self.fine.size_irc[1]), min(col, self.fine.size_irc[2])

    @property
    def size_irc(self) -> tuple[int, int, int]:
        """Number of blocks along index, row, col."""
        num_slices, num_rows, num_cols = (
            size // stride for size, stride in zip(self.fine.size_irc, self.strides_irc, strict=True)
        )
        return num_slices, num_rows, num_cols

    @property
    def spacing_irc(self) -> NDArray[np.float64]:
        """Length of a block in mm along index, row, col."""
        return np.asarray(self.fine.spacing_irc * self.strides_irc)

    @property
    def voxel_ml(self) -> float:
        """Volume of a block in ml."""
        return float(self.spacing_irc.prod()) / 1000

    def to_fine(self, blocks_irc: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the voxels (..., 3) at the middle of blocks (..., 3)."""
        strides = np.asarray(self.strides_irc)
        return np.asarray(blocks_irc * strides + (strides - 1) / 2)

    def averaged_hu(self, hounsfield: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return the mean HU of each block of an axial CT (I, R, C), clipped to ``CLIPPED_HU`` before."""
        return self._block_means(hounsfield, CLIPPED_HU)

    def shares(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the share, in [0, 1], of each block's voxels that a mask (I, R, C) of the CT holds."""
        return self._block_means(mask.view(np.uint8), (0, 1))

    def enlarged(self, coarse: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the mask (I, R, C) of the CT for a mask of blocks: linear interpolation, cut at one half."""
        fine = np.zeros(self.fine.size_irc, dtype=np.bool_)
        slices, (row, next_row, row_part), (col, next_col, col_part) = (self._neighbours(axis) for axis in range(3))
        occupied, blocks = np.asarray(coarse.any(axis=(1, 2))), coarse.astype(np.float32)
        for index, (before, after, part) in enumerate(zip(*slices, strict=True)):
            if occupied[before] or occupied[after]:
                plane: NDArray[np.float32] = (1 - part) * blocks[before] + part * blocks[after]
                plane = (1 - row_part[:, None]) * plane[row] + row_part[:, None] * plane[next_row]
                plane = (1 - col_part) * plane[:, col] + col_part * plane[:, next_col]
                fine[index] = plane > 0.5
        return fine

    def _block_means(
        self, voxels: NDArray[np.int16] | NDArray[np.uint8], limits: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Return the mean of each block's voxels, clipped before; a layer of blocks at a time, for little memory."""
        num_slices, num_rows, num_cols = self.size_irc
        index, row, col = self.strides_irc
        means = np.empty(self.size_irc, dtype=np.float32)
        for number in range(num_slices):
            slab = voxels[number * index : (number + 1) * index, : num_rows * row, : num_cols * col]
            clipped = np.clip(slab, *limits).astype(np.float32)
            means[number] = clipped.reshape(-1, num_rows, row, num_cols, col).mean(axis=(0, 2, 4))
        return means

    def _neighbours(self, axis: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
        """Return for each voxel along an axis the blocks before and after it, and the weight of the latter."""
        stride, num_blocks = self.strides_irc[axis], self.size_irc[axis]
        places = (np.arange(self.fine.size_irc[axis]) - (stride - 1) / 2) / stride
        places = np.clip(places, 0, num_blocks - 1)
        lower = np.floor(places).astype(np.intp)
        return lower, np.minimum(lower + 1, num_blocks - 1), (places - lower).astype(np.float32)
