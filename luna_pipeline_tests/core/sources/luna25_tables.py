"""Rows of LUNA25's table, made by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luna_pipeline.core.phantom.luna25 import CSV_COLUMNS

Row = dict[str, Any]


def annotation(patient: object, lesion: object, *, date: str = "20010203", label: object = 0, **changes: Any) -> Row:
    """A right row; ``changes`` replace columns, also with what contradicts the others."""
    nodule = f"{patient}_{lesion}"
    values = ("1.2." + f"{patient}.{date}", date, -10.5, 20.25, -30.0, lesion, f"{nodule}_{date}", nodule, label, 61)
    return dict(zip(CSV_COLUMNS, (patient, *values, "Male"), strict=True)) | changes


def write_table(path: Path, rows: Sequence[Row], *, columns: Sequence[str] = CSV_COLUMNS) -> Path:
    """Write rows as a CSV table."""
    lines = [",".join(columns), *(",".join(str(row[column]) for column in columns) for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path
