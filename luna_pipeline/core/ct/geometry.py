"""Conversion between world millimetres and voxels; the only place where it is done."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

SPACING_LIMITS_MM = (0.05, 20.0)
"""Distances of voxels. Photon-counting CT has 0.1 mm in the slice, CT of limbs 0.06 mm, micro-CT less; high-resolution
CT of the lung had slices 20 mm apart."""

MAX_EXTENT_MM = 4000.0
"""Length of a CT along an axis; a whole body has 2 m."""

MAX_ORIGIN_MM = 10_000.0
"""Distance of the first voxel from the scanner's origin along an axis; tables travel 2 or 3 m."""


@dataclass(frozen=True, eq=True)
class VoxelGrid:
    """Position of a CT's voxels in the patient.

    World coordinates are LPS millimetres in the order (x, y, z), as in LUNA16's tables and in ITK. Voxel
    coordinates are (index, row, col), the axes of every array; an integer is the centre of a voxel.

    Attributes:
        size_irc: Number of voxels along index, row and col.
        spacing_mm: Distance of neighbouring voxels along x, y, z (in ITK's order: col, row, index).
        origin_xyz: World position of voxel (0, 0, 0).
        direction: Nine numbers, row by row, of ITK's direction matrix: its columns are the world directions of
            the col, row and index axes. Oblique and flipped axes are allowed.

    Raises:
        ValueError: If a size or a spacing is not positive, no clinical CT can have the spacing, extent or origin
            (``SPACING_LIMITS_MM``, ``MAX_EXTENT_MM``, ``MAX_ORIGIN_MM``), or the direction is not orthonormal.
    """

    size_irc: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_xyz: tuple[float, float, float]
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.size_irc) != 3 or min(self.size_irc) < 1:
            self._refuse(f"Size must be three positive numbers of voxels, got {self.size_irc}")
        if len(self.spacing_mm) != 3 or not min(self.spacing_mm) > 0 or not np.isfinite(self.spacing_mm).all():
            self._refuse(f"Spacing must be three positive lengths in mm, got {self.spacing_mm}")
        if len(self.origin_xyz) != 3 or not np.isfinite(self.origin_xyz).all():
            self._refuse(f"Origin must be three finite lengths in mm, got {self.origin_xyz}")
        self._check_lengths()
        axes = np.asarray(self.direction, dtype=np.float64)
        # Written so that NaN is refused; np.allclose takes ten times as long.
        if axes.shape != (9,) or not np.abs(axes.reshape(3, 3) @ axes.reshape(3, 3).T - np.eye(3)).max() <= 1e-3:
            self._refuse(f"Direction must be nine numbers of an orthonormal matrix, got {self.direction}")

    def _check_lengths(self) -> None:
        """Refuse lengths that no clinical CT has: most are in another unit than mm."""
        least_mm, most_mm = SPACING_LIMITS_MM
        if not least_mm <= min(self.spacing_mm) <= max(self.spacing_mm) <= most_mm:
            self._refuse(f"Spacing of a CT must be from {least_mm} to {most_mm:g} mm, got {self.spacing_mm}")
        extent_mm = max(size * mm for size, mm in zip(self.size_irc[::-1], self.spacing_mm, strict=True))
        if extent_mm > MAX_EXTENT_MM:
            self._refuse(f"A CT must be at most {MAX_EXTENT_MM:g} mm long, got {extent_mm:g} mm")
        if max(abs(value) for value in self.origin_xyz) > MAX_ORIGIN_MM:
            self._refuse(f"Origin of a CT must be within {MAX_ORIGIN_MM:g} mm, got {self.origin_xyz}")

    def _refuse(self, rule: str) -> NoReturn:
        raise ValueError(f"{rule}. Check the CT's header.")

    @cached_property
    def _voxel_to_world(self) -> NDArray[np.float64]:
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3) @ np.diag(self.spacing_mm)

    @cached_property
    def _world_to_voxel(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.inv(self._voxel_to_world), dtype=np.float64)

    def world_to_voxel(self, points_xyz: ArrayLike) -> NDArray[np.float64]:
        """Return voxel coordinates (..., 3), index, row, col, of world positions (..., 3), x, y, z in mm.

        They are continuous, and outside the CT where the point is.
        """
        offset_xyz = np.asarray(points_xyz, dtype=np.float64) - np.asarray(self.origin_xyz)
        return _transformed(offset_xyz, self._world_to_voxel)[..., ::-1]

    def voxel_to_world(self, voxels_irc: ArrayLike) -> NDArray[np.float64]:
        """Return world positions (..., 3), x, y, z in mm, of voxels (..., 3), index, row, col, also fractions."""
        voxels_xyz = np.asarray(voxels_irc, dtype=np.float64)[..., ::-1]
        return np.asarray(_transformed(voxels_xyz, self._voxel_to_world) + np.asarray(self.origin_xyz))

    def nearest_voxel(self, points_xyz: ArrayLike) -> NDArray[np.int32]:
        """Return the voxel (..., 3), index, row, col, nearest to each finite world position (..., 3), x, y, z in mm.

        Ties are rounded up, as by ITK's TransformPhysicalPointToIndex.
        """
        return np.floor(self.world_to_voxel(points_xyz) + 0.5).astype(np.int32)

    def contains(self, voxels_irc: ArrayLike) -> NDArray[np.bool_]:
        """Return for each voxel (..., 3), index, row, col, whether it lies in the CT."""
        index, row, col = np.moveaxis(np.asarray(voxels_irc), -1, 0)
        num_slices, num_rows, num_cols = self.size_irc
        # Axis by axis: a reduction over three values a point takes several times as long.
        is_inside = (index >= 0) & (index < num_slices) & (row >= 0) & (row < num_rows)
        return np.asarray(is_inside & (col >= 0) & (col < num_cols))

    @property
    def spacing_irc(self) -> NDArray[np.float64]:
        """Spacing in mm along index, row, col: ``spacing_mm`` in the order of an array's axes."""
        return np.asarray(self.spacing_mm[::-1], dtype=np.float64)

    def resampled(self, spacing_mm: tuple[float, float, float]) -> "VoxelGrid":
        """Return the grid of the same CT with another spacing (x, y, z): same first voxel, same axes.

        It holds every voxel whose centre lies in the CT, which extends half a voxel beyond its outermost centres.
        """
        last_irc = (np.asarray(self.size_irc) - 0.5) * self.spacing_irc / np.asarray(spacing_mm[::-1])
        # A centre exactly on the CT's border is outside, as in ITK.
        num_slices, num_rows, num_cols = (int(size) for size in np.ceil(last_irc - 1e-9))
        return replace(self, size_irc=(num_slices, num_rows, num_cols), spacing_mm=spacing_mm)


def _transformed(vectors: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply vectors (..., 3) by a matrix (3, 3): the same bits for any number of vectors and on any processor.

    The rounding of a BLAS product depends on both, and a point halfway between two voxels would then move.
    """
    first, second, third = np.moveaxis(vectors, -1, 0)
    return np.asarray(np.stack([row[0] * first + row[1] * second + row[2] * third for row in matrix], axis=-1))
