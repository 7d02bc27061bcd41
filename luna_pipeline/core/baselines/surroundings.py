"""Positions in mm of the voxels around a candidate, computed once per series.

Letters of shapes: N cutouts, V voxels of the box, B voxels of the ball sorted by distance, S shells.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SHELL_EDGES_MM = (0.0, 1.5, 3.0, 4.5, 6.0, 8.0, 10.0, 12.5, 15.0)
"""Distances from the centre that bound the shells of the radial profile; the last one bounds all features."""

SCALES_MM = (1.5, 3.0, 5.0)
"""Standard deviations of the Gaussians; the response is largest for balls of radius sqrt(3) * scale (5, 10, 17 mm)."""

_RADIUS_MM = SHELL_EDGES_MM[-1]
_GRADIENT_RADIUS_MM = 10.0
# Rounding errors must not move a voxel whose distance equals an edge.
_ROUNDING_MM = 1e-6


@dataclass(frozen=True, eq=False, slots=True)
class Surroundings:
    """Geometry of cutouts of one shape and spacing.

    The box is symmetric around the centre voxel ``shape // 2`` and reaches 15 mm, or to the nearer end of the cutout.

    Attributes:
        box: The box within a cutout, a slice for each of index, row, col.
        shape_irc: Shape of the box.
        spacing_irc_mm: Distance of neighbouring voxels along index, row, col.
        positions_mm: Position of each voxel relative to the centre, float64 (V, 3), along index, row, col.
        is_border: Whether a voxel is in the box's outermost layer, bool (V,).
        ball: Flat indices of the voxels within 15 mm, by ascending distance, int64 (B,).
        distances_mm: Their distances, float64 (B,).
        shell_bounds: First place in ``ball`` of each shell, and the end, int64 (S + 1,).
        inner: Flat indices of the voxels within 10 mm whose six neighbours are all in the box, by ascending distance,
            int64.
        derivatives: For each scale and axis the weights of smoothing, slope and curvature at the centre, float64
            (length of the axis, 3).
    """

    box: tuple[slice, slice, slice]
    shape_irc: tuple[int, int, int]
    spacing_irc_mm: tuple[float, float, float]
    positions_mm: NDArray[np.float64]
    is_border: NDArray[np.bool_]
    ball: NDArray[np.int64]
    distances_mm: NDArray[np.float64]
    shell_bounds: NDArray[np.int64]
    inner: NDArray[np.int64]
    derivatives: tuple[tuple[NDArray[np.float64], ...], ...]

    def num_within(self, radius_mm: float) -> int:
        """Return the number of voxels nearer than ``radius_mm``, which are the first ones of ``ball``."""
        return int(np.searchsorted(self.distances_mm, radius_mm - _ROUNDING_MM))


@lru_cache(maxsize=16)
def surroundings_of(shape_irc: tuple[int, int, int], spacing_irc_mm: tuple[float, float, float]) -> Surroundings:
    """Compute the geometry of cutouts of a shape, with the voxel spacing along index, row, col.

    Raises:
        ValueError: If a size or spacing is not positive.
    """
    if min(shape_irc) < 1 or not (min(spacing_irc_mm) > 0 and np.isfinite(spacing_irc_mm).all()):
        msg = f"Shape and spacing must be three positive numbers each, got {shape_irc} and {spacing_irc_mm} mm."
        raise ValueError(f"{msg} Check the header of the cutouts.")
    halves = [
        min(size // 2, size - 1 - size // 2, int(np.ceil(_RADIUS_MM / spacing)))
        for size, spacing in zip(shape_irc, spacing_irc_mm, strict=True)
    ]
    offsets = np.indices([2 * half + 1 for half in halves]).reshape(3, -1).T - halves
    positions_mm = offsets * np.asarray(spacing_irc_mm)
    distance_mm = np.linalg.norm(positions_mm, axis=1)
    order = np.argsort(distance_mm, kind="stable")
    ball = order[distance_mm[order] < _RADIUS_MM - _ROUNDING_MM]
    is_border = (np.abs(offsets) == halves).any(axis=1)
    bounds = np.searchsorted(distance_mm[ball], np.asarray(SHELL_EDGES_MM) - _ROUNDING_MM)
    near = ball[distance_mm[ball] < _GRADIENT_RADIUS_MM - _ROUNDING_MM]
    slices = [slice(size // 2 - half, size // 2 + half + 1) for size, half in zip(shape_irc, halves, strict=True)]
    return Surroundings(
        box=(slices[0], slices[1], slices[2]),
        shape_irc=(2 * halves[0] + 1, 2 * halves[1] + 1, 2 * halves[2] + 1),
        spacing_irc_mm=spacing_irc_mm,
        positions_mm=positions_mm,
        is_border=is_border,
        ball=ball,
        distances_mm=distance_mm[ball],
        shell_bounds=bounds,
        inner=near[~is_border[near]],
        derivatives=tuple(
            tuple(_derivative_weights(half, mm, scale) for half, mm in zip(halves, spacing_irc_mm, strict=True))
            for scale in SCALES_MM
        ),
    )


def _derivative_weights(half: int, spacing_mm: float, scale_mm: float) -> NDArray[np.float64]:
    """Return weights (2 * half + 1, 3) of the value, slope and curvature of a Gaussian-smoothed line at its centre.

    The derivatives of a coarsely sampled or truncated Gaussian do not sum to zero, so that air alone would look curved.
    These weights are exact for parabolas at any sampling.
    """
    position = np.arange(-half, half + 1) * spacing_mm
    smooth = np.exp(-0.5 * (position / scale_mm) ** 2)
    smooth /= smooth.sum()
    if half == 0:
        # Slope and curvature along a single slice are undefined.
        return np.array([[1.0, np.nan, np.nan]])
    slope = position * smooth
    curvature = (position**2 - (position**2 * smooth).sum()) * smooth
    return np.stack([smooth, slope / (position * slope).sum(), 2 * curvature / (position**2 * curvature).sum()], axis=1)
