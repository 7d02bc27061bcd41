"""Everything that is wrong with the folder of a data source, found at once and before any work."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.folds import assign_folds
from luna_pipeline.core.candidates.table_notes import WARNING
from luna_pipeline.core.candidates.table_places import find_misplaced, find_table
from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.candidates.usable_rows import SeriesGrids
from luna_pipeline.core.ct.catalogue import catalogue_of_rows
from luna_pipeline.core.sources.checked_tables import CheckedTable
from luna_pipeline.core.sources.faults import Fault, fault_of_error, fault_of_line
from luna_pipeline.core.sources.located import LocatedSource
from luna_pipeline.core.sources.point_checks import (
    OUTSIDE,
    faults_of_diameters,
    faults_of_points,
    faults_of_series,
    points_of_source,
)
from luna_pipeline.core.sources.scan_checks import (
    faults_of_doubles,
    faults_of_masks,
    faults_of_patients,
    faults_of_unreadable,
    looks_like_mask,
)
from luna_pipeline.core.sources.source import DataSource, SourceTables
from luna_pipeline.core.sources.table_forms import check_forms

# Of the notes on tables in LUNA16's form, the one that the checks of single tables do not find.
_NOTE = "lie in no annotation"


@dataclass(frozen=True)
class SourceReport:
    """What was found in the folder of a source.

    Attributes:
        name: Name of the source.
        num_cts: CTs found.
        num_readable: Those that can be read, by their headers.
        num_rows: Rows by table.
        num_cutouts: Positions that cutouts are made of; without those that are proposed later.
        faults: Errors first, then warnings.
    """

    name: str
    num_cts: int
    num_readable: int
    num_rows: Mapping[str, int]
    num_cutouts: int
    faults: tuple[Fault, ...]


@dataclass
class _Check:
    """The state of one check: faults are added by each step."""

    located: LocatedSource
    tables: dict[str, CheckedTable] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    num_cutouts: int = 0
    has_table_errors: bool = False


def check_source(
    located: LocatedSource, data_root: Path, *, reads_voxels: bool = False, workers: int = 1
) -> SourceReport:
    """Check the CTs and tables of a source; nothing is written.

    Args:
        located: The source and its folder.
        data_root: The data root; paths in the report are relative to it.
        reads_voxels: Whether the voxels of all CTs are read, too: only then are all damaged files found.
        workers: Threads that read voxels.
    """
    check = _with_tables(located)
    catalogue = _catalogue(check, data_root)
    used = _used_series(check)
    check.faults += faults_of_unreadable(catalogue, used)
    check.faults += faults_of_masks(catalogue, data_root, used, reads_voxels=reads_voxels, workers=workers)
    check.faults += faults_of_doubles(catalogue, data_root, used)
    scans = _scans_in(catalogue, used)
    _check_tables_with_cts(check, scans)
    _check_patients(check, scans if used is None else scans[scans["series_instance_uid"].isin(used)])
    ordered = sorted(dict.fromkeys(check.faults), key=lambda fault: not fault.is_error)
    return SourceReport(
        name=located.name,
        num_cts=catalogue["series_instance_uid"].nunique(),
        num_readable=int(catalogue["is_readable"].sum()),
        num_rows={name: len(table.rows) for name, table in check.tables.items()},
        num_cutouts=check.num_cutouts,
        faults=tuple(ordered),
    )


def faults_of_tables(located: LocatedSource, catalogue: pd.DataFrame) -> list[Fault]:
    """Return what is wrong with the tables of a source, by themselves and beside its CTs.

    Args:
        located: The source and the folder of its tables.
        catalogue: Its CTs.
    """
    check = _with_tables(located)
    _check_tables_with_cts(check, catalogue)
    return check.faults


def _with_tables(located: LocatedSource) -> _Check:
    check = _Check(located)
    check.tables, check.faults = check_forms(located.root, located.source.table_forms)
    check.faults += located.source.faults(check.tables)
    check.has_table_errors = any(fault.is_error for fault in check.faults)
    return check


def _catalogue(check: _Check, data_root: Path) -> pd.DataFrame:
    """Return all CTs below the root, also those that the list of scans does not name."""
    source = check.located.source
    has_list = any(form.is_of_scans for form in source.table_forms)
    read: Callable[..., pd.DataFrame] = partial(DataSource.catalogue, source) if has_list else source.catalogue
    try:
        # Nothing is stored: the key of the hashes may be new each time.
        return read(check.located.root, data_root=data_root, patient_key=os.urandom(32))
    except (OSError, ValueError) as error:
        check.faults.append(fault_of_error(error))
        return catalogue_of_rows([])


def _used_series(check: _Check) -> set[str] | None:
    """Return the series of the list of scans; None for a source without such a list, or if it cannot be read."""
    for form in check.located.source.table_forms:
        table = check.tables.get(form.files[0])
        if form.is_of_scans and table is not None and form.series in table.rows:
            return set(form.series_of(table.rows)) - {""}
    return None


def _scans_in(catalogue: pd.DataFrame, used: Collection[str] | None) -> pd.DataFrame:
    """Return the rows of CTs: without other files, and without masks that the list of scans does not name."""
    is_mask = [
        used is not None and row.series_instance_uid not in used and bool(row.is_readable) and looks_like_mask(row)
        for row in catalogue.itertuples()
    ]
    return catalogue[(catalogue["format"] != "unknown") & ~np.array(is_mask, dtype=bool)]


def _check_tables_with_cts(check: _Check, catalogue: pd.DataFrame) -> None:
    source, root, series = check.located.source, check.located.root, SeriesGrids.of_catalogue(catalogue)
    has_list = any(form.is_of_scans for form in source.table_forms)
    for form in source.table_forms:
        table, path = check.tables.get(form.files[0]), find_table(root, form.files)
        if table is None or path is None:
            continue
        if len(catalogue) and (form.is_of_scans or not has_list):
            check.faults += faults_of_series(form, table.rows, series, file=path.name)
        points = form.points_of(table.rows, set(series.uids))
        check.num_cutouts = max(check.num_cutouts, len(points))
        check.faults += faults_of_points(points, series.readable, file=path.name)
        check.faults += faults_of_diameters(table.rows, file=path.name)
    if source.is_in_luna16_form:
        check.faults += [fault_of_line(line, is_error=False) for line in find_misplaced(root)]
    is_outside = any(fault.rule == OUTSIDE for fault in check.faults)
    if not check.has_table_errors and not is_outside and len(catalogue):
        check.faults += _faults_of_source_tables(check, catalogue, series)


def _faults_of_source_tables(check: _Check, catalogue: pd.DataFrame, series: SeriesGrids) -> Iterator[Fault]:
    """Yield what the source itself says of its tables, and positions outside CTs where it has no forms."""
    source, root = check.located.source, check.located.root
    try:
        tables = source.tables(root, catalogue)
        notes = list(tables.notes)
        if source.is_in_luna16_form:
            notes += build_candidates(root, catalogue).notes
    except (OSError, ValueError) as error:
        fault = fault_of_error(error)
        if not any(str(known) in str(error) for known in check.faults):
            yield fault
        return
    for note in notes:
        if note.startswith(WARNING) and (_NOTE in note or not source.is_in_luna16_form):
            yield fault_of_line(note.removeprefix(WARNING), is_error=False)
    if not source.table_forms:
        yield from _faults_without_forms(check, tables, series)


def _faults_without_forms(check: _Check, tables: SourceTables, series: SeriesGrids) -> Iterator[Fault]:
    for (line, reason), rows in tables.rejected.groupby(["file", "reason"], observed=True):
        lines = tuple(int(number) for number in rows["line"])
        yield Fault(rule="Each row must be usable", got=str(reason), cure="Correct it.", file=str(line), lines=lines)
    for name in ("annotations", "candidates", "excluded"):
        table = getattr(tables, name)
        if table is not None and len(table):
            check.num_cutouts = max(check.num_cutouts, len(table))
            yield from faults_of_points(points_of_source(table), series.readable, file=f"the table of {name}")


def _check_patients(check: _Check, catalogue: pd.DataFrame) -> None:
    source, root = check.located.source, check.located.root
    if not catalogue["is_readable"].any():
        return
    folds: dict[str, int] = {}
    try:
        patients = source.patients(root)
    except (OSError, ValueError):
        # The faults of the table that names them are known from the steps before.
        return
    # So are those of the tables of folds.
    with contextlib.suppress(OSError, ValueError):
        dealt = assign_folds(catalogue, data_root=root)
        given = dealt[dealt["rule"].isin(["subset folder", "subset table"])]
        folds = dict(zip(given["series_instance_uid"], given["fold"].tolist(), strict=True))
        folds |= source.folds(root, catalogue)
    is_known = any(fault.rule == "A patient must be in one fold" for fault in check.faults)
    check.faults += faults_of_patients(catalogue, patients, {} if is_known else folds)
