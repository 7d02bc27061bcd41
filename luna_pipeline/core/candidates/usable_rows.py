"""Which rows of a table can be used, and why the others cannot."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.csv_tables import parse_numbers
from luna_pipeline.core.candidates.malignancy import are_ratings
from luna_pipeline.core.ct.geometry import VoxelGrid

REJECTED_COLUMNS = ("file", "line", "series_instance_uid", "x", "y", "z", "value", "reason")
NOT_A_NUMBER = "coordinate is not a number"
NOT_FINITE = "coordinate is not finite"
UNKNOWN_CLASS = "class is not 0 or 1"
NO_DIAMETER = "diameter is not a positive number of mm"
NO_RATINGS = "ratings are not numbers from 1 to 5"
UNREADABLE_CT = "CT of the series is not readable"
OUTSIDE_CT = "outside the CT"

_POINT = ["x_mm", "y_mm", "z_mm"]


@dataclass(frozen=True)
class SeriesGrids:
    """The series of the catalogue.

    Attributes:
        readable: Grid by series_instance_uid.
        unreadable: Series of which no copy can be read.
    """

    readable: Mapping[str, VoxelGrid]
    unreadable: Collection[str]

    @classmethod
    def of_catalogue(cls, catalogue: pd.DataFrame) -> "SeriesGrids":
        """Take the grids from a catalogue's rows."""
        from luna_pipeline.core.ct.catalogue import grid_of_row

        rows = catalogue.to_dict("records")
        readable = {str(row["series_instance_uid"]): grid_of_row(row) for row in rows if row["is_readable"]}
        return cls(readable, {str(row["series_instance_uid"]) for row in rows} - set(readable))


@dataclass(frozen=True)
class UsableRows:
    """A table, sorted out.

    Attributes:
        kept: Its columns and ``x_mm``, ``y_mm``, ``z_mm``, ``number`` (class or diameter), all float64.
        rejected: ``REJECTED_COLUMNS``.
        num_rows: Rows in the file.
        num_without_ct: Rows of series that are not in the catalogue; neither kept nor rejected.
    """

    kept: pd.DataFrame
    rejected: pd.DataFrame
    num_rows: int
    num_without_ct: int


def sort_out(table: pd.DataFrame, *, file: str, value: str, series: SeriesGrids) -> UsableRows:
    """Tell the rows that can be used from those that cannot.

    Args:
        table: Text columns series_instance_uid, x, y, z and the value, with ``line``.
        file: Its name, for the rejected rows.
        value: ``class`` or ``diameter_mm``.
        series: The series there are.
    """
    has_ct = table["series_instance_uid"].isin([*series.readable, *series.unreadable])
    known = table[has_ct].reset_index(drop=True)
    numbers = [parse_numbers(known[axis]) for axis in ("x", "y", "z")]
    for column, (values, _) in zip(_POINT, numbers, strict=True):
        known[column] = values
    known["number"] = parse_numbers(known[value])[0]
    is_number = np.all([is_number for _, is_number in numbers], axis=0)
    is_finite = np.isfinite(known[_POINT].to_numpy()).all(axis=1)
    has_readable_ct = known["series_instance_uid"].isin(list(series.readable)).to_numpy(dtype=bool)
    reasons = np.select(
        [
            ~is_number,
            ~is_finite,
            ~_is_value_right(known, value),
            ~_has_right_ratings(known),
            ~has_readable_ct,
            ~_is_inside(known, is_finite & has_readable_ct, series.readable),
        ],
        [
            NOT_A_NUMBER,
            NOT_FINITE,
            UNKNOWN_CLASS if value == "class" else NO_DIAMETER,
            NO_RATINGS,
            UNREADABLE_CT,
            OUTSIDE_CT,
        ],
        default="",
    )
    is_kept = reasons == ""
    rejected = known[~is_kept].assign(file=file, reason=reasons[~is_kept], value=known.loc[~is_kept, value])
    return UsableRows(
        kept=known[is_kept].reset_index(drop=True),
        rejected=rejected[list(REJECTED_COLUMNS)].reset_index(drop=True),
        num_rows=len(table),
        num_without_ct=int((~has_ct).sum()),
    )


def _is_value_right(known: pd.DataFrame, value: str) -> NDArray[np.bool_]:
    number = known["number"].to_numpy()
    return np.isin(number, (0.0, 1.0)) if value == "class" else (number > 0) & np.isfinite(number)


def _has_right_ratings(known: pd.DataFrame) -> NDArray[np.bool_]:
    if "ratings" not in known:
        return np.ones(len(known), dtype=bool)
    return np.array([are_ratings(text) for text in known["ratings"]], dtype=bool)


def _is_inside(known: pd.DataFrame, is_asked: NDArray[np.bool_], grids: Mapping[str, VoxelGrid]) -> NDArray[np.bool_]:
    """Whether a row's nearest voxel lies in its CT; False where not asked."""
    is_inside = np.zeros(len(known), dtype=bool)
    points_xyz = known[_POINT].to_numpy()
    places = np.flatnonzero(is_asked)
    for uid, within in known["series_instance_uid"].iloc[places].groupby(known["series_instance_uid"]).indices.items():
        rows = places[within]
        grid = grids[str(uid)]
        # Rounded as nearest_voxel does, but as floats: a point kilometres away does not fit int32.
        is_inside[rows] = grid.contains(np.floor(grid.world_to_voxel(points_xyz[rows]) + 0.5))
    return is_inside
