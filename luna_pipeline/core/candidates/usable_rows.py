"""Validation of the rows of a table: usable rows, and the others with the reason."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.csv_tables import parse_numbers
from luna_pipeline.core.candidates.malignancy import are_ratings
from luna_pipeline.core.candidates.matching import POINT_COLUMNS
from luna_pipeline.core.candidates.series_codes import rows_by_series
from luna_pipeline.core.ct.geometry import VoxelGrid

REJECTED_COLUMNS = ("file", "line", "series_instance_uid", "x", "y", "z", "value", "reason")
NOT_A_NUMBER = "coordinate is not a number"
NOT_FINITE = "coordinate is not finite"
UNKNOWN_CLASS = "class is not 0 or 1"
NO_DIAMETER = "diameter is not a positive number of mm"
NO_RATINGS = "ratings are not numbers from 1 to 5"
UNREADABLE_CT = "CT of the series is not readable"
OUTSIDE_CT = "outside the CT"
TOO_LARGE = "diameter is 100,000 mm or more"
BAD_UID = "series uid is not 1 to 64 characters without spaces"

# Squares of far larger numbers are infinite, and each point would lie within such a nodule.
_MAX_MM = 1e5
_UID = re.compile(r"\S{1,64}")
# Spreadsheets and data frames write classes as booleans.
_BOOLEANS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class SeriesGrids:
    """The grids of a catalogue's series.

    Attributes:
        readable: Grid by series_instance_uid.
        unreadable: Series without a readable copy.
    """

    readable: Mapping[str, VoxelGrid]
    unreadable: Collection[str]

    @property
    def uids(self) -> list[str]:
        """All of them, sorted."""
        return sorted({*self.readable, *self.unreadable})

    @classmethod
    def of_catalogue(cls, catalogue: pd.DataFrame) -> "SeriesGrids":
        """Build from the rows of a catalogue."""
        from luna_pipeline.core.ct.catalogue import grid_of_row

        rows = catalogue.to_dict("records")
        readable = {str(row["series_instance_uid"]): grid_of_row(row) for row in rows if row["is_readable"]}
        return cls(readable, {str(row["series_instance_uid"]) for row in rows} - set(readable))


@dataclass(frozen=True)
class UsableRows:
    """A validated table.

    Attributes:
        kept: Its columns and ``x_mm``, ``y_mm``, ``z_mm``, ``number`` (class or diameter), all float64; the uids'
            categories are the series of the catalogue.
        rejected: ``REJECTED_COLUMNS``.
        num_rows: Rows in the file.
        num_without_ct: Rows of series that are not in the catalogue; neither kept nor rejected.
        file: Its name; empty for a table that does not exist.
        rows_of_series: Number of rows by the uids in the file, not zero.
        num_booleans: Rows whose class is True or False, read as 1 and 0.
    """

    kept: pd.DataFrame
    rejected: pd.DataFrame
    num_rows: int
    num_without_ct: int
    file: str
    rows_of_series: Mapping[str, int]
    num_booleans: int


def validate_rows(table: pd.DataFrame, *, file: str, value: str, series: SeriesGrids) -> UsableRows:
    """Split a table into usable and rejected rows.

    Args:
        table: Text columns series_instance_uid, x, y, z and the value, with ``line``, as from ``read_table``.
        file: Its name, for the rejected rows.
        value: ``class`` or ``diameter_mm``.
        series: The series of the catalogue.
    """
    has_ct = table["series_instance_uid"].isin(series.uids).to_numpy(dtype=bool)
    known = _rows(table, has_ct)
    known["series_instance_uid"] = known["series_instance_uid"].cat.set_categories(series.uids)
    coordinates = [parse_numbers(known[axis]) for axis in ("x", "y", "z")]
    for column, (values, _) in zip(POINT_COLUMNS, coordinates, strict=True):
        known[column] = values
    known["number"], num_booleans = _parse_value(known[value], is_class=value == "class")
    is_number = np.all([is_number for _, is_number in coordinates], axis=0)
    is_right = {NOT_A_NUMBER: is_number} | _rules(known, value, series.readable)
    # NOT_A_NUMBER stays, so that there is a rule.
    is_right = {why: keeps for why, keeps in is_right.items() if why == NOT_A_NUMBER or not keeps.all()}
    is_kept = np.all(list(is_right.values()), axis=0)
    return UsableRows(
        kept=_rows(known, is_kept),
        rejected=_rejected(known[~is_kept], {why: keeps[~is_kept] for why, keeps in is_right.items()}, file, value),
        num_rows=len(table),
        num_without_ct=int((~has_ct).sum()),
        file=file,
        rows_of_series=_count_rows(table["series_instance_uid"]),
        num_booleans=num_booleans,
    )


def _parse_value(text: pd.Series, *, is_class: bool) -> tuple[NDArray[np.float64], int]:
    """Parse classes or diameters, and return how many are booleans: only classes may be."""
    numbers, _ = parse_numbers(text)
    if not is_class or not isinstance(text.dtype, pd.CategoricalDtype):
        return numbers, 0
    booleans = np.array([_BOOLEANS.get(str(word).strip().lower(), np.nan) for word in text.cat.categories])
    if np.isnan(booleans).all():
        return numbers, 0
    values = booleans[text.cat.codes]
    is_boolean = ~np.isnan(values)
    return np.where(is_boolean, values, numbers), int(is_boolean.sum())


def _count_rows(series: pd.Series) -> dict[str, int]:
    counts = np.bincount(series.cat.codes, minlength=len(series.cat.categories))
    return {str(uid): int(count) for uid, count in zip(series.cat.categories, counts, strict=True) if count}


def _rows(table: pd.DataFrame, is_wanted: NDArray[np.bool_]) -> pd.DataFrame:
    return table.copy(deep=False) if is_wanted.all() else table[is_wanted].reset_index(drop=True)


def _rules(known: pd.DataFrame, value: str, grids: Mapping[str, VoxelGrid]) -> dict[str, NDArray[np.bool_]]:
    """Return for each reason the rows that it does not apply to; the first that applies is reported."""
    points_xyz, number = known[POINT_COLUMNS].to_numpy(), known["number"].to_numpy()
    is_finite = np.isfinite(points_xyz).all(axis=1)
    is_class = value == "class"
    return {
        NOT_FINITE: is_finite,
        (UNKNOWN_CLASS if is_class else NO_DIAMETER): (
            (number == 0) | (number == 1) if is_class else (number > 0) & np.isfinite(number)
        ),
        TOO_LARGE: ~(number >= _MAX_MM),
        NO_RATINGS: _has_right_ratings(known),
        UNREADABLE_CT: known["series_instance_uid"].isin(list(grids)).to_numpy(dtype=bool),
        BAD_UID: _has_right_uid(known["series_instance_uid"]),
        OUTSIDE_CT: are_inside(known["series_instance_uid"], points_xyz, is_finite, grids),
    }


def _rejected(rows: pd.DataFrame, is_right: Mapping[str, NDArray[np.bool_]], file: str, value: str) -> pd.DataFrame:
    reasons = np.select([~keeps for keeps in is_right.values()], list(is_right), default="")
    text = rows[["x", "y", "z"]].astype(object).assign(value=rows[value].astype(object))
    rejected = rows[["line", "series_instance_uid"]].join(text).assign(file=file, reason=reasons)
    return rejected[list(REJECTED_COLUMNS)].reset_index(drop=True)


def _has_right_uid(series: pd.Series) -> NDArray[np.bool_]:
    is_right = np.array([_UID.fullmatch(str(uid)) is not None for uid in series.cat.categories], dtype=bool)
    return np.ones(len(series), dtype=bool) if is_right.all() else is_right[series.cat.codes]


def _has_right_ratings(known: pd.DataFrame) -> NDArray[np.bool_]:
    if "ratings" not in known:
        return np.ones(len(known), dtype=bool)
    return np.array([are_ratings(text) for text in known["ratings"]], dtype=bool)


def are_inside(
    series: pd.Series, points_xyz: NDArray[np.float64], is_finite: NDArray[np.bool_], grids: Mapping[str, VoxelGrid]
) -> NDArray[np.bool_]:
    """Return whether each row's nearest voxel lies in its CT, shape (N,).

    Args:
        series: Series instance uids, N rows.
        points_xyz: World mm, shape (N, 3).
        is_finite: Rows to look at, shape (N,); False for the others and for unreadable CTs.
        grids: Grid by series_instance_uid.
    """
    is_inside = np.zeros(len(series), dtype=bool)
    for uid, places in rows_by_series(series).items():
        if uid in grids:
            rows = places[is_finite[places]]
            # Rounded as nearest_voxel does, but as floats: a point kilometres away does not fit int32.
            is_inside[rows] = grids[uid].contains(np.floor(grids[uid].world_to_voxel(points_xyz[rows]) + 0.5))
    return is_inside
