"""Resampled boxes: only the voxels around each candidate are interpolated, never the whole CT."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.cutting import (
    AIR_HU,
    LOWEST_MEASURED_HU,
    CuttingParameters,
    box_starts,
    checked_centers,
    checked_out,
)


def resample_chunks(
    hounsfield: NDArray[np.int16],
    grid: VoxelGrid,
    centers_irc: NDArray[np.integer[Any]],
    parameters: CuttingParameters,
    out: NDArray[np.int16] | None = None,
) -> NDArray[np.int16]:
    """Cut boxes from the trilinearly resampled CT, which has the CT's origin and axes.

    Padding becomes air before the interpolation.

    Args:
        hounsfield: CT values in HU, shape (I, R, C); never changed.
        grid: Its grid.
        centers_irc: Voxels of the candidates in the resampled CT, ``grid.resampled(...)``, shape (N, 3).
        parameters: Shape, HU window, edge rule, and ``resampled_spacing_mm``, which must be given.
        out: Array for the result, shape (N, *chunk_shape_irc); None for a new one.

    Returns:
        Values in HU within the window, rounded, shape (N, *chunk_shape_irc).

    Raises:
        ValueError: As ``cut_chunks``.

    Source:
        Equal to SimpleITK's ResampleImageFilter with sitkLinear within 1 HU.
    """
    if parameters.resampled_spacing_mm is None:
        msg = "A spacing must be given to resample to, got none. Set resampled_spacing_mm or use cut_chunks."
        raise ValueError(msg)
    resampled = grid.resampled(parameters.resampled_spacing_mm)
    centers = checked_centers(resampled.size_irc, centers_irc)
    out = checked_out(out, (len(centers), *parameters.chunk_shape_irc))
    starts = box_starts(centers, resampled.size_irc, parameters)
    step_irc = resampled.spacing_irc / grid.spacing_irc
    for chunk, start in zip(out, starts, strict=True):
        each_axis = (start, chunk.shape, step_irc, hounsfield.shape, resampled.size_irc)
        axes = [_weigh(*values) for values in zip(*each_axis, strict=True)]
        chunk[...] = _interpolated(hounsfield, axes, parameters.hu_window)
    return out


class _Axis(NamedTuple):
    """Neighbours in ``span`` of the CT of each voxel of a chunk along one axis, and the weight of the upper one."""

    span: slice
    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float32]
    is_outside: NDArray[np.bool_]


def _weigh(first: int, size: int, step: float, num_voxels: int, num_resampled: int) -> _Axis:
    places = first + np.arange(size)
    # Outside the first and last voxel's centre the border value is used, as ITK does for half a voxel.
    positions = np.clip(places * step, 0, num_voxels - 1)
    lower = np.floor(positions).astype(np.intp)
    upper = np.minimum(lower + 1, num_voxels - 1)
    start = int(lower[0])
    return _Axis(
        span=slice(start, int(upper[-1]) + 1),
        lower=lower - start,
        upper=upper - start,
        weight=(positions - lower).astype(np.float32),
        is_outside=(places < 0) | (places >= num_resampled),
    )


def _interpolated(hounsfield: NDArray[np.int16], axes: list[_Axis], hu_window: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate along one axis after the other: trilinear weights are products of linear ones."""
    box = hounsfield[axes[0].span, axes[1].span, axes[2].span]
    values = np.where(box < LOWEST_MEASURED_HU, AIR_HU, box).astype(np.float32)
    for dimension, axis in enumerate(axes):
        weight = np.expand_dims(axis.weight, tuple(range(1, 3 - dimension)))
        lower, upper = values.take(axis.lower, dimension), values.take(axis.upper, dimension)
        values = lower + (upper - lower) * weight
    values = np.clip(np.rint(values), *hu_window)
    for dimension, axis in enumerate(axes):
        np.moveaxis(values, dimension, 0)[axis.is_outside] = hu_window[0]
    return values
