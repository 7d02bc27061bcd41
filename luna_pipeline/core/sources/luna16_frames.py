"""Where the first voxel of a series is along x and y: from its scan, else estimated from LUNA16's excluded findings.

The readers' database has no origin. An estimate takes two numbers and one sign per series from rows of
``annotations_excluded.csv``: in some of LUNA16's scans columns and rows both run against x and y. z needs none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid

FROM_SCAN, FROM_ROWS, UNKNOWN = "scan", "excluded findings", "unknown"
_MATCH_MM = 0.05
"""Difference of z and of diameter, summed, of a row and the position that it is of."""
_AXIS_TOLERANCE = 1e-3
_UNMATCHED_MM = 1e4
_DISTINCT_MM = 0.005


@dataclass(frozen=True)
class SeriesFrame:
    """World x and y of a position: ``offset_xy`` + ``sign_xy`` * (column, row in mm).

    Attributes:
        offset_xy: World x and y of the first voxel, mm.
        sign_xy: 1 or -1: whether columns and rows run along the world's axes or against them.
        kind: Where it is from.
        num_rows: Rows that it is estimated from; 0 from a scan.
    """

    offset_xy: tuple[float, float]
    sign_xy: tuple[int, int]
    kind: str
    num_rows: int = 0


def frame_of_grid(grid: VoxelGrid) -> SeriesFrame | None:
    """Return the frame of a scan; None if its columns and rows are not along x and y."""
    first = grid.voxel_to_world((0, 0, 0))
    along_column = (grid.voxel_to_world((0, 0, 1)) - first) / grid.spacing_mm[0]
    along_row = (grid.voxel_to_world((0, 1, 0)) - first) / grid.spacing_mm[1]
    if min(abs(along_column[0]), abs(along_row[1])) < 1 - _AXIS_TOLERANCE:
        return None
    signs = int(np.sign(along_column[0])), int(np.sign(along_row[1]))
    return SeriesFrame((float(first[0]), float(first[1])), signs, FROM_SCAN)


def estimate_frames(key: pd.DataFrame, excluded: pd.DataFrame) -> dict[str, SeriesFrame]:
    """Estimate frames from excluded findings with a diameter; series without such a row have none.

    Args:
        key: As from ``rebuild_key``. The last positions of nodules by three or more readers are not used.
        excluded: Numbers ``x_mm``, ``y_mm``, ``z_mm``, ``diameter_mm`` by ``series_instance_uid``.
    """
    is_free = ~(key["is_last"] & (key["num_marks"] >= 3))
    positions = {uid: rows for uid, rows in key[is_free].groupby("series_instance_uid")}
    frames: dict[str, SeriesFrame] = {}
    for uid, rows in excluded[excluded["diameter_mm"] > 0].groupby("series_instance_uid"):
        if uid in positions and (frame := _estimated(positions[uid], rows)) is not None:
            frames[str(uid)] = frame
    return frames


def world_xy(key: pd.DataFrame, frames: Mapping[str, SeriesFrame]) -> NDArray[np.float64]:
    """Return world x and y of positions, shape (N, 2); NaN where the series has no frame."""
    known = [frames.get(uid) for uid in key["series_instance_uid"]]
    missing = (np.nan, np.nan)
    offsets = np.array([frame.offset_xy if frame else missing for frame in known]).reshape(-1, 2)
    signs = np.array([frame.sign_xy if frame else missing for frame in known]).reshape(-1, 2)
    return np.asarray(offsets + signs * key[["column_mm", "row_mm"]].to_numpy())


def _estimated(positions: pd.DataFrame, rows: pd.DataFrame) -> SeriesFrame | None:
    """Match rows one to one by z and diameter, then fit the offset for both directions and match again by x and y."""
    names = ["z_mm", "diameter_mm"]
    away_mm = np.abs(rows[names].to_numpy()[:, None] - positions[names].to_numpy()).sum(axis=2)
    theirs, ours = rows[["x_mm", "y_mm"]].to_numpy(), positions[["column_mm", "row_mm"]].to_numpy()
    fits = [_fit(theirs, sign * ours, away_mm) for sign in (1, -1)]
    if not fits[0][1]:
        return None
    # The sign is 1 where both fit, as for a single row or two marks of one size in one slice.
    chosen = 1 if fits[1][2] < fits[0][2] - _DISTINCT_MM else 0
    (x_mm, y_mm), num_rows, _ = fits[chosen]
    sign = -1 if chosen else 1
    return SeriesFrame((x_mm, y_mm), (sign, sign), FROM_ROWS, num_rows)


def _fit(
    theirs: NDArray[np.float64], ours: NDArray[np.float64], away_mm: NDArray[np.float64]
) -> tuple[tuple[float, float], int, float]:
    """Return offset, number of matched rows, and their mean distance from it in mm."""
    from scipy.optimize import linear_sum_assignment

    offset, num_rows, spread = np.zeros(2), 0, 0.0
    cost = away_mm
    for _ in range(2):
        own, other = linear_sum_assignment(np.where(away_mm < _MATCH_MM, cost, _UNMATCHED_MM))
        is_matched = away_mm[own, other] < _MATCH_MM
        own, other = own[is_matched], other[is_matched]
        if not len(own):
            break
        differences = theirs[own] - ours[other]
        offset, num_rows = np.median(differences, axis=0), len(own)
        spread = float(np.abs(differences - offset).sum(axis=1).mean())
        cost = np.abs(theirs[:, None] - ours - offset).sum(axis=2)
    return (float(offset[0]), float(offset[1])), num_rows, spread
