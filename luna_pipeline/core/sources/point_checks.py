"""A source's tables beside its CTs: series of one that the other does not have, and positions outside the CT."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.csv_tables import parse_numbers
from luna_pipeline.core.candidates.table_notes import read_otherwise
from luna_pipeline.core.candidates.uid_differences import describe_difference, shown_uid
from luna_pipeline.core.candidates.usable_rows import SeriesGrids, are_inside
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.sources.faults import Fault
from luna_pipeline.core.sources.table_forms import TableForm

OUTSIDE = "A position must lie in its CT"
_POINTS = ["x_mm", "y_mm", "z_mm"]
# Of fewer rows, some may look odd by chance.
_MIN_ROWS = 3
_SMALLEST_USUAL_MM = 3.0


def faults_of_series(form: TableForm, rows: pd.DataFrame, series: SeriesGrids, *, file: str) -> Iterator[Fault]:
    """Yield the differences between the series of a table and those of the CTs.

    Args:
        form: The table's form.
        rows: Its rows, as from ``check_table``.
        series: The CTs.
        file: Its name.
    """
    if not form.series or form.series not in rows:
        return
    known = set(series.uids)
    uids = form.series_of(rows, known)
    named = set(uids) - {""}
    absent = sorted(named - known)
    if absent:
        lines = tuple(rows.loc[uids.isin(absent), "line"].tolist())
        more = f" and {len(absent) - 1} more series" if len(absent) > 1 else ""
        difference = describe_difference(absent, known)
        is_error = form.is_of_scans or difference is not None or not named & known
        cure = difference or "Copy the CT there, or remove the row."
        rule = "A series of the table must have a CT"
        got = f"{shown_uid(absent[0])}{more} without one"
        yield Fault(rule=rule, got=got, cure=cure, file=file, lines=lines, is_error=is_error)
    if form.covers_scans and named and (bare := sorted(set(series.readable) - named)):
        more = f" and {len(bare) - 1} more CTs" if len(bare) > 1 else ""
        cure = "Add its row: a CT without one is not used." if form.is_of_scans else "Check that the table is whole."
        got = f"{shown_uid(bare[0])}{more} without one"
        yield Fault(rule="A CT must have a row in the table", got=got, cure=cure, file=file, is_error=False)


def faults_of_points(points: pd.DataFrame, grids: Mapping[str, VoxelGrid], *, file: str) -> Iterator[Fault]:
    """Yield positions outside their CT, with what they may be instead of LPS mm, and positions that may be no mm.

    Args:
        points: series_instance_uid, x_mm, y_mm, z_mm, line; line 0 where there is none.
        grids: Grid by series_instance_uid; rows of other series are skipped.
        file: The table's name.
    """
    rows = points[points["series_instance_uid"].isin(list(grids))].reset_index(drop=True)
    if rows.empty:
        return
    series = rows["series_instance_uid"].astype("category")
    xyz = rows[_POINTS].to_numpy(dtype=np.float64)
    is_inside = are_inside(series, xyz, np.ones(len(rows), dtype=bool), grids)
    outside = np.flatnonzero(~is_inside)
    yield from _outside(rows.iloc[outside], grids, file=file)
    yield from _other_units(rows[is_inside], xyz[is_inside], grids, file=file)


def _outside(rows: pd.DataFrame, grids: Mapping[str, VoxelGrid], *, file: str) -> Iterator[Fault]:
    """Yield a fault for each likely reason, and one for the rows without one."""
    while len(rows):
        series = rows["series_instance_uid"].astype("category").reset_index(drop=True)
        readings = read_otherwise(series, rows[_POINTS].to_numpy(dtype=np.float64), grids)
        words, found = max(readings.items(), key=lambda item: int(item[1].sum()))
        is_explained = 2 * int(found.sum()) > len(rows)
        explained = rows[found] if is_explained else rows
        cure = "Correct the position, or the series of the row."
        if is_explained:
            text = words.format(f"{len(explained)} of {len(rows)}")
            cure = f"{text[0].upper()}{text[1:]}. Write world coordinates in mm, and the axes they are in."
        first = explained.iloc[0]
        got = f"({', '.join(f'{first[axis]:g}' for axis in _POINTS)}) mm in LPS"
        where = f"series {first['series_instance_uid']}"
        yield Fault(rule=OUTSIDE, got=got, cure=cure, file=file, lines=_lines(explained), where=where)
        rows = rows[~found] if is_explained else rows.iloc[:0]


def _other_units(
    rows: pd.DataFrame, xyz: NDArray[np.float64], grids: Mapping[str, VoxelGrid], *, file: str
) -> Iterator[Fault]:
    """Yield positions of a file that lie inside and look like another unit."""
    if len(rows) < _MIN_ROWS or not (rows["line"] > 0).all():
        return
    series = rows["series_instance_uid"].astype("category").reset_index(drop=True)
    if are_inside(series, xyz * 10, np.ones(len(rows), dtype=bool), grids).all():
        got, cure = f"{len(rows)} that lie in their CTs times 10, too", "If they are cm, multiply them by 10."
        yield Fault(rule="Positions must be mm", got=got, cure=cure, file=file, is_error=False)
    if (xyz == np.floor(xyz)).all():
        got = f"whole numbers in all {len(rows)} rows"
        cure = "If they are voxels, convert them to world mm by the CT's header."
        yield Fault(rule="Positions must be mm", got=got, cure=cure, file=file, is_error=False)


def faults_of_diameters(rows: pd.DataFrame, *, file: str) -> Iterator[Fault]:
    """Yield a table whose diameters are all below the size that readers measure: they may be cm."""
    if "diameter_mm" not in rows:
        return
    diameters = parse_numbers(rows["diameter_mm"])[0]
    known = diameters[diameters > 0]
    if len(known) >= _MIN_ROWS and known.max() < _SMALLEST_USUAL_MM:
        got = f"{known.max():g} as the largest of {len(known)}"
        rule = f"Some diameter_mm must be {_SMALLEST_USUAL_MM:g} mm or more"
        yield Fault(rule=rule, got=got, cure="If they are cm, multiply them by 10.", file=file, is_error=False)


def _lines(rows: pd.DataFrame) -> tuple[int, ...]:
    return tuple(int(line) for line in rows["line"] if line > 0)


def points_of_source(table: pd.DataFrame) -> pd.DataFrame:
    """Return the finite positions of a table of ``SourceTables``, text or numbers, with line 0."""
    found = table[["series_instance_uid", *_POINTS]].copy()
    for axis in _POINTS:
        found[axis] = parse_numbers(found[axis].astype(str))[0]
    is_finite: Collection[bool] = np.isfinite(found[_POINTS].to_numpy(dtype=np.float64)).all(axis=1)
    return found[is_finite].assign(line=0).astype({"series_instance_uid": str})
