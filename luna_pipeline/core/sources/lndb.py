"""LNDb: 294 CTs of a hospital in Porto, nodules marked by one to three readers, with volume and texture."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.table_notes import WARNING, describe_outside
from luna_pipeline.core.candidates.usable_rows import SeriesGrids, UsableRows, validate_rows
from luna_pipeline.core.sources.card import SourceCard
from luna_pipeline.core.sources.checked_tables import CheckedTable
from luna_pipeline.core.sources.faults import Fault
from luna_pipeline.core.sources.lndb_tables import (
    FINDINGS,
    FINDINGS_FILE,
    FOLDS,
    FOLDS_FILE,
    MARKS,
    MARKS_FILE,
    LndbTables,
    faults_between,
    is_lndb,
    read_lndb_folds,
    read_lndb_tables,
)
from luna_pipeline.core.sources.source import (
    NODULE_COLUMNS,
    RATINGS,
    READER_COLUMNS,
    UNKNOWN_DIAMETER_MM,
    DataSource,
    SourceTables,
)

MIN_READERS = 1
"""Readers that must have taken a reference nodule for one. 59 of the 236 annotated CTs have a single reader: with two,
they would have no nodules."""

MIN_DIAMETER_MM = 3.0
"""Reference nodules are larger. LNDb writes the volume of a ball of exactly 3 mm for findings that were not outlined:
nodules below 3 mm and non-nodules."""

_UNMEASURED_MM = 1e-3
_SCAN = re.compile(r"LNDb-\d{4}")


class Lndb(DataSource):
    """The CTs with the training annotations; those of the challenge's test set have none."""

    card: ClassVar[SourceCard] = SourceCard(
        name="lndb",
        title="LNDb (Lung Nodule Database), version 4",
        licence="CC BY-NC-ND 4.0 (CTs, masks and tables): no commercial use; changed data must not be passed on",
        citation="Pedrosa et al., LNDb: A Lung Nodule Database on Computed Tomography, arXiv:1911.08434 (2019)",
        address="https://zenodo.org/records/6613714",
        size="294 CTs (236 annotated, 58 of the challenge's test set), about 150 GB unpacked",
        layout="Folders data0 to data5 with LNDb-XXXX.mhd and .raw, masks with LNDb-XXXX_radN.mhd, and trainset_csv.",
        traps=(
            "The 58 test CTs have no annotations: they are not evaluated.",
            "Readers are numbered within a CT: reader 1 of two CTs may be two persons.",
            "No consensus reading: most findings were marked by one reader only.",
            "A volume of 14.137 mm³ is a placeholder (a ball of 3 mm) for findings that were not outlined.",
            "RadID and RadFindingID of trainNodules_gt.csv are quoted lists: '1,2' must stay one value.",
            "No malignancy in these tables, and no pathology.",
            "Masks are beside the CTs in the same format; each nonzero number is the reader's FindingID.",
        ),
    )

    table_forms = (MARKS, FINDINGS, FOLDS)

    def is_at(self, root: Path) -> bool:
        """Return whether the tables of marks and findings are there."""
        return is_lndb(root)

    def is_scan(self, path: Path) -> bool:
        """Return whether a file is named as a CT of LNDb; masks have ``_radN`` behind it."""
        return _SCAN.fullmatch(path.name.split(".")[0]) is not None

    def patients(self, root: Path) -> Mapping[str, str]:
        """Return the CT's own name: LNDb has one CT a patient."""
        names = {path.name.split(".")[0] for path in root.rglob("LNDb-*") if self.is_scan(path)}
        return {name: name for name in names}

    def tables(self, root: Path, catalogue: pd.DataFrame) -> SourceTables:
        """Read marks and findings.

        Reference nodules are findings that ``MIN_READERS`` took for a nodule and that are larger than
        ``MIN_DIAMETER_MM``; all others are excluded findings.

        Raises:
            FileNotFoundError: If a table is missing.
            ValueError: If a table is malformed: the first fault with file and line, and the number of the others.
        """
        tables = read_lndb_tables(root)
        grids = SeriesGrids.of_catalogue(catalogue)
        findings = _usable(tables.findings, grids, file=FINDINGS_FILE)
        marks = _usable(tables.marks, grids, file=MARKS_FILE)
        is_reference = (findings.kept["num_readers"] >= MIN_READERS) & _is_measured(findings.kept)
        scans, notes = _scans(tables, catalogue)
        return SourceTables(
            annotations=findings.kept.loc[is_reference, list(NODULE_COLUMNS)].reset_index(drop=True),
            excluded=_excluded(findings.kept[~is_reference]),
            readers=_readers(marks.kept, tables.findings),
            scans=scans,
            rejected=pd.concat([findings.rejected, marks.rejected], ignore_index=True),
            notes=(
                _count(findings.kept, is_reference),
                *notes,
                *_unmatched(tables),
                *describe_outside(findings, grids.readable),
                *describe_outside(marks, grids.readable),
            ),
        )

    def faults(self, tables: Mapping[str, CheckedTable]) -> Sequence[Fault]:
        """Return what is wrong between columns: lists of readers, agreement, units, scans in two folds."""
        return faults_between(tables)

    def folds(self, root: Path, catalogue: pd.DataFrame) -> Mapping[str, int]:
        """Return the challenge's four folds.

        Raises:
            ValueError: If their table is malformed.
        """
        known = set(catalogue["series_instance_uid"])
        return {uid: fold for uid, fold in read_lndb_folds(root).items() if uid in known}


def _usable(table: pd.DataFrame, grids: SeriesGrids, *, file: str) -> UsableRows:
    """Split a table into rows of readable CTs and rejected rows; rows of CTs that are not there are in neither."""
    text = table.assign(**{"class": np.where(table["is_nodule"], "1", "0")})
    text["series_instance_uid"] = text["series_instance_uid"].astype("category")
    usable = validate_rows(text, file=file, value="class", series=grids)
    usable.kept["series_instance_uid"] = usable.kept["series_instance_uid"].astype(object)
    return usable


def _is_measured(rows: pd.DataFrame) -> "pd.Series[bool]":
    return rows["is_nodule"] & (rows["diameter_mm"] > MIN_DIAMETER_MM + _UNMEASURED_MM)


def _excluded(rows: pd.DataFrame) -> pd.DataFrame:
    """Return findings that are no reference, without the diameter where it is a placeholder."""
    is_placeholder = ~rows["is_nodule"] | ((rows["diameter_mm"] - MIN_DIAMETER_MM).abs() <= _UNMEASURED_MM)
    is_unknown = is_placeholder | (rows["diameter_mm"] == 0)
    known = rows.assign(diameter_mm=rows["diameter_mm"].mask(is_unknown, UNKNOWN_DIAMETER_MM))
    return known[list(NODULE_COLUMNS)].reset_index(drop=True)


def _readers(marks: pd.DataFrame, findings: pd.DataFrame) -> pd.DataFrame:
    """Return the marks of nodules that were outlined, with the number of the finding that each is a part of."""
    finding_of = {
        (uid, reader, mark): finding
        for uid, pairs, finding in zip(
            findings["series_instance_uid"], findings["marks"], findings["finding"], strict=True
        )
        for reader, mark in pairs
    }
    keys = list(zip(marks["series_instance_uid"], marks["reader"], marks["mark"], strict=True))
    nodule = np.array([finding_of.get(key, -1) for key in keys], dtype=np.int64)
    table = marks.assign(nodule=nodule, longest_axial_mm=np.nan)
    table[list(RATINGS)] = np.nan
    # 0 is written where a reader gave none.
    table["texture"] = marks["texture"].where(marks["texture"] >= 1).round()
    chosen = table[_is_measured(table) & (nodule >= 0)]
    return chosen[list(READER_COLUMNS)].astype(dict.fromkeys(RATINGS, "Int8")).reset_index(drop=True)


def _scans(tables: LndbTables, catalogue: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the annotated CTs of the catalogue, and a line about the others."""
    there = set(catalogue["series_instance_uid"])
    annotated = set(tables.folds or ()) | set(tables.marks["series_instance_uid"])
    notes = (
        [] if tables.folds is not None else [f"{WARNING}{FOLDS_FILE} is not there: CTs without any mark are unknown."]
    )
    if others := there - annotated:
        notes.append(f"LNDb: {len(others)} CTs without annotations (the challenge's test set) are not evaluated.")
    if absent := annotated - there:
        notes.append(f"LNDb: {len(absent)} annotated CTs are not in the catalogue.")
    return sorted(annotated & there), notes


def _count(findings: pd.DataFrame, is_reference: "pd.Series[bool]") -> str:
    num_small = int((findings["is_nodule"] & ~is_reference).sum())
    num_others = int((~findings["is_nodule"]).sum())
    by = ", ".join(
        f"{int((findings.loc[is_reference, 'num_readers'] >= number).sum())} by {number} or more"
        for number in (1, 2, 3)
    )
    kinds = f"{num_small} nodules of {MIN_DIAMETER_MM:g} mm or less and {num_others} non-nodules are excluded findings"
    return f"LNDb: {int(is_reference.sum())} reference nodules ({by} readers); {kinds}."


def _unmatched(tables: LndbTables) -> list[str]:
    """Report marks that no finding names, and the reverse: the tables are then of two versions."""
    marks = set(zip(tables.marks["series_instance_uid"], tables.marks["reader"], tables.marks["mark"], strict=True))
    pairs = zip(tables.findings["series_instance_uid"], tables.findings["marks"], strict=True)
    named = {(uid, *pair) for uid, found in pairs for pair in found}
    if marks == named:
        return []
    found = (
        f"{len(marks - named)} marks of {MARKS_FILE} are in no finding, {len(named - marks)} marks of {FINDINGS_FILE}"
    )
    return [f"{WARNING}LNDb: {found} are not in {MARKS_FILE}. Take both tables from one version of LNDb."]
