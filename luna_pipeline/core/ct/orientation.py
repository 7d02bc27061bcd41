"""Reads a CT of any orientation as axial slices from feet to head, without copying its voxels."""

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid

ScalarT = TypeVar("ScalarT", bound=np.generic)


@dataclass(frozen=True)
class AxialView:
    """The axial view of a CT: index towards the head, row towards the back, col towards the patient's left.

    Axes are permuted and flipped, never resampled: an oblique CT keeps its angle to the patient's axes.

    Attributes:
        original: The CT's own grid.
    """

    original: VoxelGrid

    @cached_property
    def axes(self) -> tuple[int, int, int]:
        """The original array axis of the view's index, row and col."""
        closeness = np.abs(_world_of_axes(self.original))
        # The permutation with the largest sum; greedy choices fail at angles of about 45 degrees.
        best = max(
            permutations(range(3)), key=lambda axes: sum(closeness[axis, 2 - at] for at, axis in enumerate(axes))
        )
        return best[0], best[1], best[2]

    @cached_property
    def is_flipped(self) -> tuple[bool, bool, bool]:
        """Whether the view's index, row and col run against the original axis."""
        world = _world_of_axes(self.original)
        index, row, col = (bool(world[axis, 2 - at] < 0) for at, axis in enumerate(self.axes))
        return index, row, col

    @cached_property
    def grid(self) -> VoxelGrid:
        """Grid of the view; the world position of each voxel stays the same."""
        original = self.original
        index, row, col = self.axes
        x_mm, y_mm, z_mm = original.voxel_to_world(self.to_original((0, 0, 0)))
        signs = np.where(self.is_flipped, -1.0, 1.0)[:, None]
        direction = (_world_of_axes(original)[list(self.axes)] * signs)[::-1].T
        return VoxelGrid(
            size_irc=(original.size_irc[index], original.size_irc[row], original.size_irc[col]),
            spacing_mm=(original.spacing_mm[2 - col], original.spacing_mm[2 - row], original.spacing_mm[2 - index]),
            origin_xyz=(float(x_mm), float(y_mm), float(z_mm)),
            direction=tuple(float(value) for value in direction.ravel()),
        )

    def of(self, voxels: NDArray[ScalarT]) -> NDArray[ScalarT]:
        """Return the axial view (I, R, C) of an array on the original grid."""
        return voxels.transpose(self.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in self.is_flipped)]

    def restored(self, voxels: NDArray[ScalarT]) -> NDArray[ScalarT]:
        """Return the view on the original grid of an axial array: the inverse of ``of``."""
        unflipped = voxels[tuple(slice(None, None, -1 if flip else 1) for flip in self.is_flipped)]
        return unflipped.transpose(np.argsort(self.axes))

    def to_original(self, voxels_irc: ArrayLike) -> NDArray[np.float64]:
        """Return voxels (..., 3) of the original grid, index, row, col, of voxels of the view, also fractions."""
        voxels = np.asarray(voxels_irc, dtype=np.float64)
        last_irc = np.asarray(self.original.size_irc, dtype=np.float64)[list(self.axes)] - 1
        unflipped = np.where(self.is_flipped, last_irc - voxels, voxels)
        return unflipped[..., np.argsort(self.axes)]


def _world_of_axes(grid: VoxelGrid) -> NDArray[np.float64]:
    """Return the world direction (x, y, z) of the array axes index, row, col, a row each."""
    return np.asarray(grid.direction, dtype=np.float64).reshape(3, 3).T[::-1]
