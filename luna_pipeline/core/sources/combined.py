"""Several data sources as one: one catalogue, one set of tables, the folds that the sources define."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.csv_tables import parse_numbers
from luna_pipeline.core.candidates.matching import POINT_COLUMNS, nearest_in_series
from luna_pipeline.core.ct.formats.luna25_block import is_block
from luna_pipeline.core.sources.located import LocatedSource
from luna_pipeline.core.sources.source import SourceTables
from luna_pipeline.core.sources.table_rules import TABLE_NAMES, check_source_tables

DATA_SOURCE = "data_source"
"""Column of the catalogue: name of the source of a series."""
SHARED = "A scan must belong to one data source"
"""Start of the reason of a series that an earlier source has, too."""

Propose = Callable[[pd.DataFrame], pd.DataFrame]
"""Returns positions (``POINT``) proposed as candidates for the rows of a catalogue."""


def catalogue_of_sources(
    located: Sequence[LocatedSource], *, data_root: Path, patient_key: bytes, kept: pd.DataFrame | None = None
) -> pd.DataFrame:
    """List the series of all sources.

    Args:
        located: The sources; a scan that several have belongs to the first of them.
        data_root: The data root; paths are relative to it.
        patient_key: Key of the patients' hashes: a patient has the same hash in all sources.
        kept: An earlier catalogue.

    Returns:
        As from ``catalogue_series``, with ``data_source``.

    Raises:
        FileNotFoundError: If a source holds no CT.
    """
    parts = []
    for it in located:
        part = it.source.catalogue(it.root, data_root=data_root, patient_key=patient_key, kept=kept)
        _add_patients(part, it, patient_key)
        parts.append(part.assign(**{DATA_SOURCE: it.name}))
    catalogue = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    # The order of the categories is that of the sources.
    catalogue[DATA_SOURCE] = pd.Categorical(catalogue[DATA_SOURCE], categories=[it.name for it in located])
    if len(parts) > 1:
        _settle(catalogue)
        # Stable: of one series, the first source's row stays the first.
        catalogue = catalogue.sort_values("series_instance_uid", kind="stable", ignore_index=True)
    return catalogue


def left_out_rows(catalogue: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the unreadable rows that need attention, and lines about scans that several sources have."""
    unreadable = catalogue[~catalogue["is_readable"].astype(bool)]
    is_shared = unreadable["reason"].str.startswith(SHARED, na=False)
    shared = unreadable[is_shared]
    lines = [
        f"{len(rows)} scans of {name} are in an earlier data source, too, and are read from there."
        for name, rows in (shared.groupby(DATA_SOURCE, observed=True) if len(shared) else ())
    ]
    left_out = unreadable[~is_shared]
    places = zip(left_out["path"], left_out["series_instance_uid"], strict=True)
    # The names of blocks' files name patients.
    shown = [uid if is_block(Path(path)) else path for path, uid in places]
    return left_out.assign(path=pd.Series(shown, index=left_out.index, dtype=object)), lines


def combined_tables(located: Sequence[LocatedSource], catalogue: pd.DataFrame, *, propose: Propose) -> SourceTables:
    """Return the tables of all sources together.

    Each source gives the tables of its own scans; rows of a scan that belongs to another source are left out. A source
    without candidates gets proposed ones, of class 1 where they lie within the radius of an annotation.

    Args:
        located: The sources.
        catalogue: As from ``catalogue_of_sources``.
        propose: Finds candidates in scans.

    Raises:
        FileNotFoundError: If a source lacks a table.
        ValueError: If a table is malformed.
    """
    parts = []
    for it in located:
        rows = _rows_of(catalogue, it)
        elsewhere = set(catalogue.loc[catalogue["is_readable"].astype(bool), "series_instance_uid"])
        elsewhere -= set(rows.loc[rows["is_readable"].astype(bool), "series_instance_uid"])
        tables = it.source.tables(it.root, rows)
        check_source_tables(tables, it.name)
        if tables.readers is None:
            tables = replace(tables, readers=it.source.readers(it.root, rows))
        if tables.candidates is None:
            tables = _with_candidates(tables, propose(_searched(rows, tables.scans)))
        parts.append((it, _without(tables, elsewhere), rows))
    joined: dict[str, Any] = {name: _joined([getattr(tables, name) for _, tables, _ in parts]) for name in TABLE_NAMES}
    return SourceTables(
        **joined,
        scans=_scans([(tables, rows) for _, tables, rows in parts]),
        notes=tuple(
            line if len(located) == 1 else _of_source(line, it.name) for it, tables, _ in parts for line in tables.notes
        ),
    )


def _searched(rows: pd.DataFrame, scans: Sequence[str] | None) -> pd.DataFrame:
    """Return the readable rows of annotated scans: where nodules are not annotated, all would be of class 0."""
    is_searched = rows["is_readable"].astype(bool)
    return rows[is_searched if scans is None else is_searched & rows["series_instance_uid"].isin(scans)]


def own_folds(located: Sequence[LocatedSource], catalogue: pd.DataFrame) -> dict[str, int]:
    """Return the fold of each series that its source defines."""
    folds: dict[str, int] = {}
    for it in located:
        rows = _rows_of(catalogue, it)
        known = set(rows.loc[rows["is_readable"].astype(bool), "series_instance_uid"])
        folds |= {uid: fold for uid, fold in it.source.folds(it.root, rows).items() if uid in known}
    return folds


def _rows_of(catalogue: pd.DataFrame, it: LocatedSource) -> pd.DataFrame:
    """Return the rows of a source; a catalogue of an earlier version has a single source."""
    return catalogue[catalogue[DATA_SOURCE] == it.name] if DATA_SOURCE in catalogue else catalogue


def _add_patients(part: pd.DataFrame, it: LocatedSource, patient_key: bytes) -> None:
    """Fill in the hashes of patients: as a table names them, else as the DICOM files do."""
    hashes = {
        uid: hmac.new(patient_key, patient.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()
        for uid, patient in it.source.patients(it.root).items()
        if patient.strip()
    }
    # Other formats have no patient: the hash of a kept row is of an earlier table.
    own = part["patient_hash"].astype(object).where(part["format"] == "dicom", None)
    named = part["series_instance_uid"].map(hashes).astype(object)
    part["patient_hash"] = named.where(named.notna(), own)


def _settle(catalogue: pd.DataFrame) -> None:
    """Leave each series to the first source with a readable file of it."""
    readable = catalogue[catalogue["is_readable"].astype(bool)]
    first = readable.drop_duplicates("series_instance_uid").set_index("series_instance_uid")[DATA_SOURCE]
    later = readable[readable["series_instance_uid"].duplicated()]
    reasons = [
        f"{SHARED}, got {first[uid]} and {name} (series {uid}). It is read from {first[uid]}."
        for uid, name in zip(later["series_instance_uid"], later[DATA_SOURCE], strict=True)
    ]
    catalogue.loc[later.index, "is_readable"] = False
    catalogue.loc[later.index, "reason"] = reasons


def _with_candidates(tables: SourceTables, proposed: pd.DataFrame) -> SourceTables:
    nodules = None if tables.annotations is None else _usable(tables.annotations)
    if nodules is None or nodules.empty:
        places = pd.Series(-1, index=proposed.index)
    else:
        of_point = nearest_in_series(
            proposed["series_instance_uid"],
            proposed[POINT_COLUMNS],
            center_series=nodules["series_instance_uid"],
            centers_xyz=nodules[POINT_COLUMNS],
            radii_mm=nodules["diameter_mm"] / 2,
        )
        places = pd.Series(of_point, index=proposed.index)
    return replace(tables, candidates=proposed.assign(**{"class": (places >= 0).astype("int8")}))


def _usable(nodules: pd.DataFrame) -> pd.DataFrame:
    """Return the nodules whose place and diameter are numbers; tables in LUNA16's form are text."""
    numbers = {name: parse_numbers(nodules[name].astype(str))[0] for name in (*POINT_COLUMNS, "diameter_mm")}
    table = nodules[["series_instance_uid"]].assign(**numbers)
    is_usable = np.isfinite(table[list(numbers)].to_numpy()).all(axis=1) & (table["diameter_mm"].to_numpy() > 0)
    usable: pd.DataFrame = table[is_usable]
    return usable


def _without(tables: SourceTables, series: set[str]) -> SourceTables:
    """Return tables without the rows of some series."""
    there = {name: table for name in TABLE_NAMES if (table := getattr(tables, name)) is not None}
    kept = {name: table[~table["series_instance_uid"].astype(str).isin(series)] for name, table in there.items()}
    scans = None if tables.scans is None else [uid for uid in tables.scans if uid not in series]
    return replace(tables, scans=scans, **kept)


def _joined(tables: Sequence[pd.DataFrame | None]) -> pd.DataFrame | None:
    there = [table.astype({"series_instance_uid": object}) for table in tables if table is not None]
    filled = [table for table in there if len(table)] or there[:1]
    if not filled:
        return None
    return pd.concat([table.astype(object) for table in filled], ignore_index=True) if len(filled) > 1 else filled[0]


def _scans(parts: Sequence[tuple[SourceTables, pd.DataFrame]]) -> list[str] | None:
    """Return the scans that are evaluated; a source without a list has all of its readable ones evaluated.

    Beside a source with annotations, scans of a source of nodules alone are left out: a model's findings there would
    all be false positives.
    """
    annotated = [(tables, rows) for tables, rows in parts if tables.annotations is not None] or parts
    if len(annotated) == len(parts) and all(tables.scans is None for tables, _ in parts):
        return None
    return [
        str(uid) for tables, rows in annotated for uid in (_readable(rows) if tables.scans is None else tables.scans)
    ]


def _readable(rows: pd.DataFrame) -> pd.Series:
    return rows.loc[rows["is_readable"].astype(bool), "series_instance_uid"]


def _of_source(line: str, name: str) -> str:
    warning = "Warning: "
    return f"{warning}{name}: {line.removeprefix(warning)}" if line.startswith(warning) else f"{name}: {line}"
