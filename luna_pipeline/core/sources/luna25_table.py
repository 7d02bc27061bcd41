"""LUNA25's table of annotations: a row for each nodule and scan."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.csv_content import header_line, read_content, split_line
from luna_pipeline.core.ct.formats.luna25_block import TABLE, block_uid
from luna_pipeline.core.sources.cell_rules import Column
from luna_pipeline.core.sources.checked_tables import read_checked
from luna_pipeline.core.sources.faults import Fault, raise_faults
from luna_pipeline.core.sources.table_forms import TableForm

ROW_COLUMNS = (
    *("annotation", "nodule", "patient", "series_instance_uid", "x_mm", "y_mm", "z_mm", "study_date", "is_malignant"),
    "line",
)
_MAX_MM = 10_000.0
_ID = re.compile(r"[0-9A-Za-z.-]{1,40}")
_WHOLE = re.compile(r"^(\d+)\.0+$")
_IDS = ("PatientID", "LesionID", "StudyDate")
_TRUE, _FALSE = {"1", "1.0", "true"}, {"0", "0.0", "false"}
COLUMNS = (
    Column(name="PatientID", is_secret=True),
    Column(name="SeriesInstanceUID", kind="uid"),
    Column(name="StudyDate", is_secret=True),
    *(Column(name=f"Coord{axis}", kind="number", least=-_MAX_MM, most=_MAX_MM, unit="mm") for axis in "XYZ"),
    Column(name="LesionID"),
    Column(name="AnnotationID", is_secret=True),
    Column(name="NoduleID", is_secret=True),
    Column(name="label", kind="word", words=("0", "1", "0.0", "1.0", "False", "True")),
)
"""Columns that are read; age and gender are not."""


@dataclass(frozen=True, kw_only=True)
class _Luna25Form(TableForm):
    """A table whose rows name a scan, or a nodule block where there are blocks only."""

    def series_of(self, rows: pd.DataFrame, known: Collection[str] = ()) -> "pd.Series[str]":
        """Return the series of the scans, or the names of the blocks where only those are known."""
        series = rows[self.series]
        blocks = rows["AnnotationID"].map(block_uid) if "AnnotationID" in rows else series
        return series.where(series.isin(known) | ~blocks.isin(known), blocks)


FORM = _Luna25Form(
    files=(TABLE,),
    columns=COLUMNS,
    unique=(("AnnotationID",),),
    series="SeriesInstanceUID",
    points=("CoordX", "CoordY", "CoordZ"),
    covers_scans=True,
)
"""The table under its published name, for ``luna check_data``."""


def find_annotations(root: Path) -> Path:
    """Return the table at the top of a folder: the only CSV file with LUNA25's columns, whatever its name.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    tables = sorted(path for path in root.glob("*.csv") if path.is_file() and not path.name.startswith("."))
    named = [path for path in tables if _names_columns(path)]
    # A single table is read whatever its columns, so that the message says what is wrong with it.
    found = named or tables[: 1 if len(tables) == 1 else 0]
    if not found:
        rule = f"The folder of LUNA25 must hold its table of annotations, got {len(tables)} CSV files without its"
        cure = "Copy LUNA25_Public_Training_Development_Data.csv there."
        raise FileNotFoundError(f"{rule} columns (in {root}). {cure}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:3])
        rule = f"The folder of LUNA25 must hold one table of annotations, got {len(found)}: {names} (in {root})."
        raise ValueError(f"{rule} Keep one of them there.")
    return found[0]


def read_annotations(path: Path) -> pd.DataFrame:
    """Read LUNA25's table.

    Returns:
        A row for each annotation in the table's order, ``ROW_COLUMNS``: ids as text, world coordinates in LPS mm,
        ``study_date`` as ``datetime.date``, ``is_malignant`` bool, ``line`` (the header is 1). Ids name patients: they
        must not be shown or stored.

    Raises:
        ValueError: If anything is wrong: the first fault with file and line, and the number of the others.
    """
    table = _with_whole_ids(read_checked(path, COLUMNS, unique=FORM.unique))
    dates = [_date_of(text) for text in table["StudyDate"]]
    raise_faults(list(_faults(table, dates, path.name)))
    numbers = {axis: table[f"Coord{axis.upper()}"].astype(np.float64) for axis in "xyz"}
    return pd.DataFrame(
        {
            "annotation": table["AnnotationID"],
            "nodule": table["NoduleID"],
            "patient": table["PatientID"],
            "series_instance_uid": table["SeriesInstanceUID"],
            **{f"{axis}_mm": values for axis, values in numbers.items()},
            "study_date": dates,
            "is_malignant": table["label"].str.lower().isin(_TRUE),
            "line": table["line"],
        }
    )


def faults_between_columns(table: pd.DataFrame, file: str) -> list[Fault]:
    """Return what is wrong between the columns of a checked table; none if it lacks one."""
    if not {column.name for column in COLUMNS} <= set(table.columns):
        return []
    table = _with_whole_ids(table.copy())
    return list(_faults(table, [_date_of(text) for text in table["StudyDate"]], file))


def _with_whole_ids(table: pd.DataFrame) -> pd.DataFrame:
    """Write ids as numbers without a fraction: a spreadsheet or a data frame with a gap adds one."""
    for column in _IDS:
        table[column] = table[column].str.replace(_WHOLE, r"\1", regex=True)
    return table


def _names_columns(path: Path) -> bool:
    try:
        return {column.name for column in COLUMNS} <= set(split_line(header_line(read_content(path), path.name)))
    except (OSError, ValueError):
        return False


def _date_of(text: str) -> date | None:
    """Return the day of a date written YYYYMMDD, None for anything else."""
    try:
        return date.fromisoformat(f"{text[:4]}-{text[4:6]}-{text[6:]}") if re.fullmatch(r"\d{8}", text) else None
    except ValueError:
        return None


def _faults(table: pd.DataFrame, dates: list[date | None], file: str) -> Iterator[Fault]:
    """Yield what single cells do not show: dates, ids that contradict each other, series of several patients."""
    patient, lesion, day = (table[name] for name in _IDS)
    hidden = "one that differs (not shown)"
    checks = (
        (
            np.array([_ID.fullmatch(text) is None for text in (patient + lesion)], dtype=bool),
            "PatientID and LesionID must be made of letters and digits",
            "Correct them.",
        ),
        (np.array([value is None for value in dates], dtype=bool), "StudyDate must be a date YYYYMMDD", "Correct it."),
        (
            table["NoduleID"] != patient + "_" + lesion,
            "NoduleID must be PatientID_LesionID",
            "Correct the row: one of the three is of another nodule.",
        ),
        (
            table["AnnotationID"] != patient + "_" + lesion + "_" + day,
            "AnnotationID must be PatientID_LesionID_StudyDate",
            "Correct the row: one of the four is of another annotation.",
        ),
        (_differs(table, "PatientID"), "A series must be of one patient", "Correct SeriesInstanceUID or PatientID."),
        (_differs(table, "StudyDate"), "A series must have one StudyDate", "Correct SeriesInstanceUID or StudyDate."),
    )
    for is_wrong, rule, cure in checks:
        rows = np.asarray(is_wrong, dtype=bool)
        if rows.any():
            lines = tuple(int(line) for line in table["line"].to_numpy()[rows])
            yield Fault(rule=rule, got=hidden, cure=cure, file=file, lines=lines)


def _differs(table: pd.DataFrame, column: str) -> pd.Series:
    """Return whether a row's value differs from that of the first row of its series."""
    return table[column] != table.groupby("SeriesInstanceUID")[column].transform("first")
