"""Which annotated nodule a point lies in."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from luna_pipeline.core.candidates.series_codes import rows_by_series

# Columns with a point's world position (LPS mm).
POINT_COLUMNS = ["x_mm", "y_mm", "z_mm"]


def nearest_within_radius(points_xyz: ArrayLike, centers_xyz: ArrayLike, radii_mm: ArrayLike) -> NDArray[np.int64]:
    """Return for each point the nearest of the spheres that it lies in.

    Args:
        points_xyz: World mm, shape (N, 3).
        centers_xyz: World mm, shape (M, 3).
        radii_mm: Shape (M,).

    Returns:
        Place in ``centers_xyz``, shape (N,); -1 where a point lies in no sphere. A point on the surface lies outside;
        of two centres at one distance the first counts.

    Raises:
        ValueError: If there is not one radius a centre.

    Source:
        LUNA16's evaluation script: a hit lies at less than the nodule's radius; compared in squared mm as there.
    """
    points = np.asarray(points_xyz, dtype=np.float64).reshape(-1, 3)
    centers = np.asarray(centers_xyz, dtype=np.float64).reshape(-1, 3)
    radii = np.asarray(radii_mm, dtype=np.float64).reshape(-1)
    if len(centers) != len(radii):
        msg = f"There must be one radius a centre, got {len(radii)} for {len(centers)}. Hand over both from one table."
        raise ValueError(msg)
    return _nearest(points, centers, radii, [np.arange(len(points))] * len(centers))


def nearest_in_series(
    series: pd.Series, points_xyz: ArrayLike, *, center_series: pd.Series, centers_xyz: ArrayLike, radii_mm: ArrayLike
) -> NDArray[np.int64]:
    """Return for each point the nearest of the spheres of its series that it lies in.

    Args:
        series: Series instance uid of each point, N rows.
        points_xyz: World mm, shape (N, 3).
        center_series: Series instance uid of each sphere, M rows.
        centers_xyz: World mm, shape (M, 3).
        radii_mm: Shape (M,).

    Returns:
        Place in ``centers_xyz``, shape (N,), as from ``nearest_within_radius``.
    """
    points = np.asarray(points_xyz, dtype=np.float64)
    rows_of_points, spheres_of_series = rows_by_series(series), rows_by_series(center_series)
    rows_of_center = [np.empty(0, dtype=np.intp)] * len(center_series)
    for uid, spheres in spheres_of_series.items():
        for sphere in spheres if uid in rows_of_points else ():
            rows_of_center[sphere] = rows_of_points[uid]
    return _nearest(points, np.asarray(centers_xyz), np.asarray(radii_mm), rows_of_center)


def _nearest(
    points: NDArray[np.float64],
    centers: NDArray[np.float64],
    radii: NDArray[np.float64],
    rows_of_center: Sequence[NDArray[np.intp]],
) -> NDArray[np.int64]:
    """Do what nearest_within_radius does, where only some rows of points are asked for each centre."""
    limits_mm2 = radii**2
    x_mm = np.ascontiguousarray(points[:, 0])
    # Few points are near along x, and a sum of squares is never below one of them, rounded or not.
    near = [
        rows[(x_mm[rows] - center_mm) ** 2 < limit_mm2]
        for rows, center_mm, limit_mm2 in zip(rows_of_center, centers[:, 0], limits_mm2, strict=True)
    ]
    rows = np.concatenate([np.empty(0, dtype=np.intp), *near])
    places = np.repeat(np.arange(len(centers)), [len(found) for found in near])
    distances_mm2 = ((points[rows] - centers[places]) ** 2).sum(axis=1)
    is_inside = distances_mm2 < limits_mm2[places]
    rows, places, distances_mm2 = rows[is_inside], places[is_inside], distances_mm2[is_inside]
    # The nearest, and among equals the first, is written last.
    order = np.lexsort((places, distances_mm2))[::-1]
    nearest = np.full(len(points), -1, dtype=np.int64)
    nearest[rows[order]] = places[order]
    return nearest
