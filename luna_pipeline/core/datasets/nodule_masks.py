"""Masks of the nodules of a CT: balls of the annotated diameter."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid


class NoduleMasks(Protocol):
    """The nodules of one CT. A source with contours implements it with the contours' voxels."""

    def mask(self, start_irc: NDArray[np.int64], shape_irc: tuple[int, int, int]) -> NDArray[np.bool_]:
        """Return which voxels of a box are of nodules; the box may extend beyond the CT."""


@dataclass(frozen=True, eq=False)
class BallMasks:
    """Balls around the annotated centres.

    Attributes:
        centers_irc: Centres in voxels of the axial view, fractions included, float64 (N, 3).
        radii_mm: float64 (N,).
        spacing_irc: Distance of voxels in mm along index, row, col.
    """

    centers_irc: NDArray[np.float64]
    radii_mm: NDArray[np.float64]
    spacing_irc: NDArray[np.float64]

    @classmethod
    def of_annotations(
        cls, centers_xyz: NDArray[np.float64], diameters_mm: NDArray[np.float64], grid: VoxelGrid
    ) -> "BallMasks":
        """Return the balls of annotations in world mm (N, 3) on the grid of an axial view."""
        return cls(grid.world_to_voxel(centers_xyz.reshape(-1, 3)), diameters_mm / 2, grid.spacing_irc)

    def mask(self, start_irc: NDArray[np.int64], shape_irc: tuple[int, int, int]) -> NDArray[np.bool_]:
        """Return the voxels whose centres lie in a ball, and the voxel nearest to each ball's centre."""
        mask = np.zeros(shape_irc, dtype=np.bool_)
        for center_irc, radius_mm in zip(self.centers_irc - start_irc, self.radii_mm, strict=True):
            reach = radius_mm / self.spacing_irc
            low = np.maximum(np.ceil(center_irc - reach), 0).astype(int)
            high = np.minimum(np.floor(center_irc + reach) + 1, shape_irc).astype(int)
            nearest = np.floor(center_irc + 0.5).astype(int)
            if ((nearest >= 0) & (nearest < shape_irc)).all():
                mask[tuple(nearest)] = True
            if (low >= high).any():
                continue
            axes = [
                ((np.arange(first, last) - middle) * mm) ** 2
                for first, last, middle, mm in zip(low, high, center_irc, self.spacing_irc, strict=True)
            ]
            distance_mm2 = axes[0][:, None, None] + axes[1][:, None] + axes[2]
            index, row, col = (slice(first, last) for first, last in zip(low, high, strict=True))
            mask[index, row, col] |= distance_mm2 <= radius_mm**2
        return mask
