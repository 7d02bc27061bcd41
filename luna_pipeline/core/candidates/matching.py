"""Matching of points with the annotated nodules that contain them."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from luna_pipeline.core.candidates.series_codes import rows_by_series

# Columns with a point's world position (LPS mm).
POINT_COLUMNS = ["x_mm", "y_mm", "z_mm"]


def nearest_in_series(
    series: pd.Series, points_xyz: ArrayLike, *, center_series: pd.Series, centers_xyz: ArrayLike, radii_mm: ArrayLike
) -> NDArray[np.int64]:
    """Return for each point the nearest sphere of its series that contains it.

    Args:
        series: Series instance uid of each point, N rows.
        points_xyz: World mm, shape (N, 3).
        center_series: Series instance uid of each sphere, M rows.
        centers_xyz: World mm, shape (M, 3).
        radii_mm: Shape (M,).

    Returns:
        Row of ``centers_xyz``, shape (N,); -1 where no sphere contains the point. A point on the surface lies outside;
        of two centres at the same distance the first one is returned.

    Source:
        LUNA16's evaluation script: a hit lies at less than the nodule's radius; compared in squared mm as there.
    """
    points, centers = np.asarray(points_xyz, dtype=np.float64), np.asarray(centers_xyz, dtype=np.float64)
    rows_of_series, limits_mm2 = rows_by_series(series), np.asarray(radii_mm, dtype=np.float64) ** 2
    rows_of_center = [np.empty(0, dtype=np.intp)] * len(center_series)
    for uid, spheres in rows_by_series(center_series).items():
        for sphere in spheres if uid in rows_of_series else ():
            rows_of_center[sphere] = rows_of_series[uid]
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
