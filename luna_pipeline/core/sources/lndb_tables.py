"""LNDb's tables: what each reader marked, the findings that these marks were put together to, and the folds.

Positions are world mm, LPS, as ITK reads the CTs: LNDb's own programs convert them by origin, spacing and direction of
the MetaImage header.

Source:
    Pedrosa et al., LNDb: A Lung Nodule Database on Computed Tomography, arXiv:1911.08434; programs of the challenge
    (readNoduleList.py puts marks together: same kind, nearer than the larger radius or 3 mm).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.csv_columns import shown_value
from luna_pipeline.core.candidates.csv_tables import parse_numbers
from luna_pipeline.core.candidates.table_places import find_table
from luna_pipeline.core.sources.cell_rules import Column
from luna_pipeline.core.sources.checked_tables import CheckedTable
from luna_pipeline.core.sources.faults import Fault, raise_faults
from luna_pipeline.core.sources.table_forms import TableForm, check_forms

FOLDER = "trainset_csv"
"""Folder that the archive of the tables unpacks to; the tables may also lie beside the CTs' folders."""

_MOST_FOLDS = 10
_MOST_ID = 9999
_LIST = re.compile(r"\d{1,4}(\s*,\s*\d{1,4})*")
_SCAN = Column(name="LNDbID", kind="whole", least=1, most=_MOST_ID)
_FINDING = Column(name="FindingID", kind="whole", least=1, most=_MOST_ID)
_POINT = tuple(Column(name=name, kind="number") for name in ("x", "y", "z"))
_VALUES = (
    Column(name="Nodule", kind="whole", least=0, most=1),
    Column(name="Volume", kind="number", least=0, most=5e6, unit="mm³, not voxels"),
    Column(name="Text", kind="number", least=0, most=5),
)
_FOLDS = tuple(
    Column(name=f"Fold{fold}", kind="whole", least=1, most=_MOST_ID, is_required=fold == 0, may_be_empty=True)
    for fold in range(_MOST_FOLDS)
)


@dataclass(frozen=True, kw_only=True)
class _LndbForm(TableForm):
    """A table that names scans by LNDb's number."""

    def series_of(self, rows: pd.DataFrame, known: Collection[str] = ()) -> "pd.Series[str]":
        """Return the names of the scans' files."""
        numbers = parse_numbers(rows[self.series])[0]
        return pd.Series([uid_of(int(it)) if np.isfinite(it) else "" for it in numbers], index=rows.index, dtype=object)


def _places(name: str) -> tuple[str, str]:
    return name, f"{FOLDER}/{name}"


MARKS = _LndbForm(
    files=_places("trainNodules.csv"),
    columns=(_SCAN, Column(name="RadID", kind="whole", least=1, most=9), _FINDING, *_POINT, *_VALUES),
    unique=(("LNDbID", "RadID", "FindingID"),),
    is_required=True,
    series="LNDbID",
    points=("x", "y", "z"),
)
FINDINGS = _LndbForm(
    files=_places("trainNodules_gt.csv"),
    columns=(
        *(_SCAN, Column(name="RadID"), Column(name="RadFindingID"), _FINDING, *_POINT),
        *(Column(name="AgrLevel", kind="whole", least=0, most=9), *_VALUES),
    ),
    unique=(("LNDbID", "FindingID"),),
    is_required=True,
    series="LNDbID",
    points=("x", "y", "z"),
)
FOLDS = TableForm(files=_places("trainFolds.csv"), columns=_FOLDS, series="")
MARKS_FILE, FINDINGS_FILE, FOLDS_FILE = (form.files[0] for form in (MARKS, FINDINGS, FOLDS))


@dataclass(frozen=True, eq=False)
class LndbTables:
    """The three tables, validated.

    Attributes:
        marks: A row a mark: series_instance_uid, reader, mark (its number with the reader), x, y, z (as written), and
            is_nodule, diameter_mm, volume_mm3, texture (1 ground glass to 5 solid, 0 without one), line.
        findings: A row a finding: series_instance_uid, finding, marks (tuple of pairs reader, mark), num_readers (those
            that took it for a nodule), and x, y, z, is_nodule, diameter_mm, volume_mm3, texture, line as for marks.
        folds: Fold by series; None without the table.
    """

    marks: pd.DataFrame
    findings: pd.DataFrame
    folds: dict[str, int] | None


def uid_of(lndb_id: int) -> str:
    """Return the name of a scan's files, which is its series uid here: ``LNDb-0001``."""
    return f"LNDb-{lndb_id:04d}"


def diameter_of(volume_mm3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the diameter, mm, of a ball of the same volume."""
    return np.asarray(2 * np.cbrt(3 * volume_mm3 / (4 * np.pi)))


def is_lndb(root: Path) -> bool:
    """Return whether a folder holds marks and findings, at its top or in ``trainset_csv``."""
    return all(find_table(root, form.files) is not None for form in (MARKS, FINDINGS))


def read_lndb_tables(root: Path) -> LndbTables:
    """Read the tables strictly.

    Raises:
        FileNotFoundError: If the marks or the findings are missing.
        ValueError: If a table is malformed: the first fault with file and line, and the number of the others.
    """
    for form in (MARKS, FINDINGS):
        if find_table(root, form.files) is None:
            rule = f"LNDb must have {form.files[0]} at its top or in {FOLDER}, got none (in {root})"
            raise FileNotFoundError(f"{rule}. Unpack {FOLDER}.zip there.")
    tables, faults = check_forms(root, (MARKS, FINDINGS, FOLDS))
    raise_faults([*faults, *faults_between(tables)])
    folds = _folds(tables[FOLDS_FILE].rows) if FOLDS_FILE in tables else None
    return LndbTables(_marks(tables[MARKS_FILE].rows), _findings(tables[FINDINGS_FILE].rows), folds)


def read_lndb_folds(root: Path) -> dict[str, int]:
    """Return the fold by series, empty without the table.

    Raises:
        ValueError: If the table is malformed, or names a scan twice.
    """
    tables, faults = check_forms(root, (FOLDS,))
    raise_faults([*faults, *faults_between(tables)])
    return _folds(tables[FOLDS_FILE].rows) if tables else {}


def faults_between(tables: Mapping[str, CheckedTable]) -> list[Fault]:
    """Return what is wrong between columns, given tables by the first file name of their form."""
    rows = {name: table.rows for name, table in tables.items()}
    faults: list[Fault] = []
    for name in (MARKS_FILE, FINDINGS_FILE):
        if name in rows:
            faults += _faults_of_volumes(rows[name], name)
    if FINDINGS_FILE in rows:
        faults += _faults_of_findings(rows[FINDINGS_FILE])
    return faults + (_faults_of_folds(rows[FOLDS_FILE]) if FOLDS_FILE in rows else [])


def _faults_of_findings(rows: pd.DataFrame) -> list[Fault]:
    """Return what is wrong between the columns of a row of findings: lists of readers, agreement and kind."""
    if not {"RadID", "RadFindingID", "AgrLevel", "Nodule"} <= set(rows.columns):
        return []
    lists = {name: rows[name].str.fullmatch(_LIST) for name in ("RadID", "RadFindingID")}
    faults = [
        _fault(rows[~is_list], name, f"{name} must be numbers, such as 1 or '1,2,3'", "Copy the table again.")
        for name, is_list in lists.items()
    ]
    known = rows[lists["RadID"] & lists["RadFindingID"]]
    num_readers = known["RadID"].str.count(",") + 1
    is_unequal = num_readers != known["RadFindingID"].str.count(",") + 1
    rule = "RadID and RadFindingID must have as many numbers"
    faults.append(_fault(known[is_unequal], "RadFindingID", rule, "Copy the table again."))
    agreement, kind = (parse_numbers(known[name])[0] for name in ("AgrLevel", "Nodule"))
    # Comparisons with NaN are false: cells that are no numbers have their own fault.
    is_odd = ((agreement > 0) & (kind == 0)) | ((agreement == 0) & (kind == 1)) | (agreement > num_readers)
    rule = "AgrLevel must count the readers of RadID that took a finding for a nodule, 0 where Nodule is 0"
    faults.append(_fault(known[is_odd], "AgrLevel", rule, "Copy the table again."))
    return [fault for fault in faults if fault.lines]


def _faults_of_volumes(rows: pd.DataFrame, file: str) -> list[Fault]:
    """Return a fault where most nodules are smaller than a ball of 1.2 mm: their volumes are in ml."""
    if not {"Nodule", "Volume"} <= set(rows.columns):
        return []
    volume_mm3, kind = (parse_numbers(rows[name])[0] for name in ("Volume", "Nodule"))
    is_small = (kind == 1) & (volume_mm3 > 0) & (volume_mm3 < 1)
    if 2 * is_small.sum() <= (kind == 1).sum():
        return []
    got, lines = f"{rows['Volume'][is_small].iloc[0]} and the like", tuple(rows["line"][is_small].tolist())
    return [Fault(rule="Volume must be in mm³", got=got, cure="Write mm³, not ml.", file=file, lines=lines)]


def _faults_of_folds(rows: pd.DataFrame) -> list[Fault]:
    """Return the scans that the table of folds names twice."""
    seen: dict[int, int] = {}
    faults = []
    for fold, scan, line in _members(rows):
        if scan in seen:
            rule = "A scan must be in one fold, once"
            got = f"{scan} in Fold{seen[scan]} and Fold{fold}"
            faults.append(Fault(rule=rule, got=got, cure="Keep one of them.", file=FOLDS_FILE, lines=(line,)))
        seen[scan] = fold
    return faults


def _fault(rows: pd.DataFrame, column: str, rule: str, cure: str) -> Fault:
    got = shown_value(str(rows[column].iloc[0])) if len(rows) else ""
    return Fault(rule=rule, got=got, cure=cure, file=FINDINGS_FILE, lines=tuple(rows["line"].tolist()))


def _marks(rows: pd.DataFrame) -> pd.DataFrame:
    return _common(rows).assign(reader=_whole(rows["RadID"]), mark=_whole(rows["FindingID"]))


def _findings(rows: pd.DataFrame) -> pd.DataFrame:
    cells = zip(rows["RadID"], rows["RadFindingID"], strict=True)
    pairs = [tuple(zip(_numbers(readers), _numbers(marks), strict=True)) for readers, marks in cells]
    return _common(rows).assign(
        finding=_whole(rows["FindingID"]),
        marks=pd.Series(pairs, dtype=object),
        num_readers=_whole(rows["AgrLevel"]),
    )


def _common(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what marks and findings have in common; positions stay text, for the rows that are rejected."""
    volume_mm3 = parse_numbers(rows["Volume"])[0]
    return pd.DataFrame(
        {
            "series_instance_uid": [uid_of(number) for number in _whole(rows["LNDbID"])],
            **{axis: rows[axis].to_numpy() for axis in ("x", "y", "z")},
            "is_nodule": parse_numbers(rows["Nodule"])[0] == 1,
            "diameter_mm": diameter_of(volume_mm3),
            "volume_mm3": volume_mm3,
            "texture": parse_numbers(rows["Text"])[0],
            "line": rows["line"].to_numpy(),
        }
    )


def _folds(rows: pd.DataFrame) -> dict[str, int]:
    return {uid_of(scan): fold for fold, scan, _ in _members(rows)}


def _members(rows: pd.DataFrame) -> Iterator[tuple[int, int, int]]:
    """Yield fold, scan and line of each valid cell, column by column."""
    for fold in range(_MOST_FOLDS):
        if f"Fold{fold}" in rows:
            for text, line in zip(rows[f"Fold{fold}"], rows["line"], strict=True):
                (number,), _ = parse_numbers(pd.Series([text], dtype=object))
                if np.isfinite(number) and number == np.floor(number):
                    yield fold, int(number), int(line)


def _whole(text: pd.Series) -> NDArray[np.int64]:
    return parse_numbers(text)[0].astype(np.int64)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]
