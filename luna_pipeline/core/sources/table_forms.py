"""Forms of a source's CSV tables: names, columns and the rules of their values."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.csv_columns import SPELLINGS
from luna_pipeline.core.candidates.csv_tables import parse_numbers
from luna_pipeline.core.candidates.table_notes import PLAUSIBLE_DIAMETERS_MM
from luna_pipeline.core.candidates.table_places import (
    ANNOTATION_FILES,
    CANDIDATE_FILES,
    EXCLUDED_FILES,
    MALIGNANCY_FILES,
    SUBSET_FILES,
    find_table,
)
from luna_pipeline.core.sources.cell_rules import Column
from luna_pipeline.core.sources.checked_tables import CheckedTable, check_table
from luna_pipeline.core.sources.faults import Fault

_MM = "mm, not cm, pixels or voxels"


@dataclass(frozen=True, kw_only=True)
class TableForm:
    """The form of a table.

    Attributes:
        files: Accepted file names; the first that is there is read.
        columns: Its columns.
        unique: Groups of columns that no two rows may share.
        is_required: Whether the source cannot be used without it.
        series: Column with the series uid; empty where the table has none.
        points: Columns with x, y, z in mm, LPS unless ``frame`` says RAS; empty where the table has no positions.
        frame: Column that says LPS or RAS; empty where all are LPS.
        is_of_scans: Whether it is the list of scans: each row must have a CT.
        covers_scans: Whether each CT should have a row.
    """

    files: tuple[str, ...]
    columns: tuple[Column, ...]
    unique: tuple[tuple[str, ...], ...] = ()
    is_required: bool = False
    series: str = "series_instance_uid"
    points: tuple[str, ...] = ()
    frame: str = ""
    is_of_scans: bool = False
    covers_scans: bool = False

    def series_of(self, rows: pd.DataFrame, known: Collection[str] = ()) -> "pd.Series[str]":
        """Return the series of each row of a checked table, named as in the catalogue; empty where there is none.

        Args:
            rows: The table.
            known: Series of the catalogue, for a source whose tables may mean several kinds of files.
        """
        return rows[self.series]

    def points_of(self, rows: pd.DataFrame, known: Collection[str] = ()) -> pd.DataFrame:
        """Return the finite positions of a checked table: series_instance_uid, x_mm, y_mm, z_mm (LPS), line."""
        if not self.points or not {self.series, *self.points} <= set(rows.columns):
            return pd.DataFrame(columns=["series_instance_uid", "x_mm", "y_mm", "z_mm", "line"])
        points = np.stack([parse_numbers(rows[column])[0] for column in self.points], axis=1)
        if self.frame in rows:
            is_ras = (rows[self.frame].str.upper() == "RAS").to_numpy(dtype=bool)
            points[is_ras, :2] *= -1
        found = pd.DataFrame(points, columns=["x_mm", "y_mm", "z_mm"])
        found.insert(0, "series_instance_uid", self.series_of(rows, known).to_numpy())
        found["line"] = rows["line"].to_numpy()
        is_finite = np.asarray(np.isfinite(points).all(axis=1))
        return found.loc[is_finite].reset_index(drop=True)


def point_columns(names: Sequence[str], spellings: Mapping[str, tuple[str, ...]]) -> tuple[Column, ...]:
    """Return columns of positions in mm."""
    return tuple(Column(name=name, spellings=spellings.get(name, ()), kind="number") for name in names)


def diameter_column(**options: Any) -> Column:
    """Return the column of a nodule's diameter in mm."""
    least, most = PLAUSIBLE_DIAMETERS_MM
    rules: dict[str, Any] = {"name": "diameter_mm", "kind": "number", "least": least, "most": most, "unit": _MM}
    return Column(**(rules | options))


def flag_column(name: str, **options: Any) -> Column:
    """Return a column of 0 and 1, or False and True."""
    return Column(name=name, kind="word", words=("0", "1"), synonyms=("0.0", "1.0", "true", "false"), **options)


def check_forms(root: Path, forms: Sequence[TableForm]) -> tuple[dict[str, CheckedTable], list[Fault]]:
    """Read the tables of a folder and find all their faults.

    Args:
        root: Folder of the tables.
        forms: Forms of the tables.

    Returns:
        The tables that are there, by the first file name of their form; and the faults of all.
    """
    tables: dict[str, CheckedTable] = {}
    faults: list[Fault] = []
    for form in forms:
        path = find_table(root, form.files)
        if path is not None:
            tables[form.files[0]] = check_table(path, form.columns, unique=form.unique)
            faults += tables[form.files[0]].faults
        elif form.is_required:
            rule, cure = f"The data folder must hold {' or '.join(form.files)}", "Write it, or copy it there."
            faults.append(Fault(rule=rule, got="none", cure=cure, file=form.files[0]))
    return tables, faults


_UID = Column(name="series_instance_uid", spellings=SPELLINGS["series_instance_uid"], kind="uid")
_POINTS = ("x", "y", "z")
_POINT_COLUMNS = point_columns(_POINTS, SPELLINGS)
_KEY = (("series_instance_uid", *_POINTS),)


def _luna16_form(files: tuple[str, ...], *columns: Column, **options: Any) -> TableForm:
    return TableForm(files=files, columns=(_UID, *_POINT_COLUMNS, *columns), points=_POINTS, **options)


_LABEL = flag_column("is_malignant", spellings=SPELLINGS["is_malignant"], is_required=False, may_be_empty=True)
_RATINGS = Column(name="ratings", spellings=SPELLINGS["ratings"], kind="ratings", is_required=False, may_be_empty=True)
LUNA16_FORMS = (
    _luna16_form(ANNOTATION_FILES, diameter_column(), unique=_KEY),
    # LUNA16's own candidates have a few positions twice.
    _luna16_form(CANDIDATE_FILES, flag_column("class"), covers_scans=True),
    _luna16_form(EXCLUDED_FILES, diameter_column(exception=-1.0, least=0.0)),
    _luna16_form(MALIGNANCY_FILES, diameter_column(), _LABEL, _RATINGS),
    TableForm(
        files=SUBSET_FILES,
        columns=(_UID, Column(name="subset", kind="whole", least=0)),
        unique=(("series_instance_uid",),),
    ),
)
"""LUNA16's tables."""
