"""What users must know about the rows of their tables, in lines: rows without a CT, rejected and doubled ones."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.csv_columns import shown_value
from luna_pipeline.core.candidates.csv_tables import parse_numbers
from luna_pipeline.core.candidates.matching import POINT_COLUMNS, nearest_in_series
from luna_pipeline.core.candidates.uid_differences import describe_difference, shown_uid
from luna_pipeline.core.candidates.usable_rows import (
    NO_DIAMETER,
    NOT_A_NUMBER,
    NOT_FINITE,
    OUTSIDE_CT,
    TOO_LARGE,
    UNKNOWN_CLASS,
    SeriesGrids,
    UsableRows,
    are_inside,
)
from luna_pipeline.core.ct.geometry import VoxelGrid

WARNING = "Warning: "
# LUNA16 has annotations of 68 % of its series.
_FEW_SERIES = 0.5
_MAX_LINES = 5
PLAUSIBLE_DIAMETERS_MM = (1.0, 150.0)
"""Diameters of nodules and masses; other numbers are mostly cm, pixels or voxels."""
_NEGATED_XY = np.array([-1.0, -1.0, 1.0])


def describe_match(parts: Sequence[UsableRows], series: SeriesGrids, *, others: Sequence[UsableRows] = ()) -> list[str]:
    """Report how many rows and series of tables belong to CTs, and what their uids look like where they do not.

    Args:
        parts: Candidates and annotations.
        series: The series of the catalogue.
        others: Tables whose rows are not counted as rows of a CT: ratings.
    """
    readable, known = set(series.readable), set(series.uids)
    lines = [line for part in (*parts, *others) if part.num_rows for line in _matches_of(part, readable, known)]
    with_rows = readable & {uid for part in parts for uid in part.rows_of_series}
    if (num_bare := len(readable) - len(with_rows)) and with_rows:
        is_few = len(with_rows) < _FEW_SERIES * len(readable)
        lines.append(f"{WARNING * is_few}{num_bare} of {len(readable)} readable CTs have no row in any table.")
    return lines


def _matches_of(part: UsableRows, readable: Collection[str], known: Collection[str]) -> list[str]:
    lines = []
    matching = part.rows_of_series.keys() & readable
    absent = sorted(part.rows_of_series.keys() - known)
    if absent:
        num_rows = sum(part.rows_of_series[uid] for uid in matching)
        warning = "" if matching else WARNING
        lines.append(
            f"{warning}{part.file}: {num_rows} of {part.num_rows} rows belong to {len(matching)} of {len(readable)} "
            f"readable CTs; {len(absent)} of {len(part.rows_of_series)} series of the table have no CT."
        )
    difference = describe_difference(absent, known)
    if difference is None and absent and known and not matching:
        difference = f"{shown_uid(absent[0])} in the table, {shown_uid(min(known))} of the CTs."
    return [*lines, f"{WARNING}{part.file}: series uids differ: {difference}"] if difference else lines


def describe_rejected(rejected: pd.DataFrame) -> list[str]:
    """Report rejected rows, a line for each file and reason, with their number, first value and first lines."""
    lines = []
    for (file, reason), rows in rejected.groupby(["file", "reason"], observed=True, sort=False):
        places = ", ".join(str(line) for line in rows["line"].head(_MAX_LINES)) + ", ..." * (len(rows) > _MAX_LINES)
        lines.append(f"Rejected {len(rows)} rows of {file}: {reason}, got {_offending(rows.iloc[0])} (line {places}).")
    return lines


def _offending(row: pd.Series) -> str:
    """Return the text of the field that a row was rejected for."""
    reason, coordinates = row["reason"], [str(row[axis]) for axis in ("x", "y", "z")]
    if reason in (UNKNOWN_CLASS, NO_DIAMETER, TOO_LARGE):
        return shown_value(str(row["value"]))
    if reason in (NOT_A_NUMBER, NOT_FINITE):
        values, is_number = parse_numbers(pd.Series(coordinates, dtype=object))
        is_right = is_number if reason == NOT_A_NUMBER else np.isfinite(values)
        return shown_value(coordinates[int(np.argmin(is_right))])
    if reason == OUTSIDE_CT:
        return f"({', '.join(coordinates)}) mm"
    return f"a row of series {shown_uid(str(row['series_instance_uid']))}"


def describe_outside(part: UsableRows, grids: Mapping[str, VoxelGrid]) -> list[str]:
    """Report rows outside their CT that would lie inside if their coordinates were of another kind."""
    rows = part.rejected[part.rejected["reason"] == OUTSIDE_CT]
    if rows.empty:
        return []
    points = np.stack([parse_numbers(rows[axis])[0] for axis in ("x", "y", "z")], axis=1)
    is_inside = read_otherwise(rows["series_instance_uid"].reset_index(drop=True), points, grids)
    words, count = max(((words, int(found.sum())) for words, found in is_inside.items()), key=lambda item: item[1])
    if 2 * count <= len(rows):
        return []
    num_known = part.num_rows - part.num_without_ct
    found = f"{part.file}: {len(rows)} of {num_known} rows lie outside their CT; {words.format(count)}"
    return [f"{WARNING}{found}. Write world coordinates in LPS mm."]


def read_otherwise(
    series: pd.Series, points_xyz: NDArray[np.float64], grids: Mapping[str, VoxelGrid]
) -> dict[str, NDArray[np.bool_]]:
    """Return which points would lie in their CT if they were of another kind than LPS mm.

    Args:
        series: Series instance uids, categorical, N rows.
        points_xyz: Finite positions as they are written, shape (N, 3).
        grids: Grid by series_instance_uid; each row's series has one.

    Returns:
        Whether they would, shape (N,), by words with a place for their number.
    """
    everywhere = np.ones(len(series), dtype=bool)
    readings = {
        "with x and y negated {} would lie inside (RAS instead of LPS?)": points_xyz * _NEGATED_XY,
        "with x and z exchanged {} would lie inside (z, y, x instead of x, y, z?)": points_xyz[:, ::-1],
        "multiplied by 10, {} would lie inside (cm instead of mm?)": points_xyz * 10,
    }
    found = {words: are_inside(series, read, everywhere, grids) for words, read in readings.items()}
    found["as voxels (column, row, slice) {} would lie inside (voxels instead of mm?)"] = _are_voxels(
        series, points_xyz, grids
    )
    return found


def _are_voxels(series: pd.Series, points: NDArray[np.float64], grids: Mapping[str, VoxelGrid]) -> NDArray[np.bool_]:
    found = np.zeros(len(series), dtype=bool)
    for uid, places in series.groupby(series, observed=True).indices.items():
        found[places] = grids[str(uid)].contains(points[places][:, ::-1])
    return found


def describe_negated(detections: pd.DataFrame, nodules: pd.DataFrame, *, file: str) -> list[str]:
    """Report candidates of class 1 in no annotation that would lie in one with x and y negated.

    Args:
        detections: Candidates with ``number`` (class) and ``diameter_mm`` of their annotation.
        nodules: Annotations with their ``number`` (diameter in mm).
        file: The candidates' file.

    Returns:
        A line or none: in a CT around the origin such rows lie inside the CT, and none is rejected.
    """
    is_nodule = detections["number"].to_numpy() == 1
    outside = detections[is_nodule & detections["diameter_mm"].isna().to_numpy()]
    if outside.empty or nodules.empty:
        return []
    places = nearest_in_series(
        outside["series_instance_uid"],
        outside[POINT_COLUMNS].to_numpy() * _NEGATED_XY,
        center_series=nodules["series_instance_uid"],
        centers_xyz=nodules[POINT_COLUMNS],
        radii_mm=nodules["number"] / 2,
    )
    num_negated = int((places >= 0).sum())
    if 2 * num_negated <= len(outside):
        return []
    found = f"{file}: {len(outside)} of {int(is_nodule.sum())} rows of class 1 lie in no annotation; with x and y "
    found += f"negated {num_negated} would (RAS instead of LPS in one of the tables?)"
    return [f"{WARNING}{found}. Write world coordinates in LPS mm."]


def describe_diameters(*parts: UsableRows) -> list[str]:
    """Report diameters that no nodule has: most are in another unit than mm.

    Args:
        parts: Annotations and ratings, with their ``number`` (diameter in mm).
    """
    least, most = PLAUSIBLE_DIAMETERS_MM
    lines = []
    for part in parts:
        diameters = part.kept["number"].to_numpy()
        if num_odd := int(((diameters < least) | (diameters > most)).sum()):
            found = f"{part.file}: {num_odd} of {len(diameters)} diameters are below {least:g} or above {most:g} mm"
            lines.append(f"{WARNING}{found}. Write mm, not cm, pixels or voxels.")
    return lines


def describe_values(part: UsableRows, num_repeated: int) -> list[str]:
    """Report doubled rows, and classes that are booleans."""
    lines = []
    if num_repeated:
        lines.append(f"{WARNING}{part.file}: {num_repeated} rows are there twice, and kept. Remove them if unintended.")
    if part.num_booleans:
        lines.append(f"{part.file}: {part.num_booleans} rows have True or False as class, read as 1 and 0.")
    return lines
