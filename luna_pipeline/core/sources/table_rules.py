"""Rules that the tables of a data source must keep, checked before they are put together."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from luna_pipeline.core.candidates.usable_rows import REJECTED_COLUMNS
from luna_pipeline.core.sources.source import CANDIDATE_COLUMNS, NODULE_COLUMNS, READER_COLUMNS, SourceTables

_COLUMNS = {
    "annotations": NODULE_COLUMNS,
    "candidates": CANDIDATE_COLUMNS,
    "excluded": NODULE_COLUMNS,
    "ratings": NODULE_COLUMNS,
    "readers": READER_COLUMNS,
    "rejected": REJECTED_COLUMNS,
}
TABLE_NAMES = tuple(_COLUMNS)
_LABELS = {"true", "false", "1", "0", "1.0", "0.0", ""}


def check_source_tables(tables: SourceTables, source: str) -> None:
    """Check the columns, ratings and labels of a source's tables; places and diameters are checked row by row later.

    Args:
        tables: Tables as the source gives them.
        source: Name of the source, for messages.

    Raises:
        ValueError: If a column is missing, a rating is no whole number from 1 to 5, or a label is not true or false.
    """
    for name, columns in _COLUMNS.items():
        table = getattr(tables, name)
        missing = [] if table is None else [column for column in columns if column not in table]
        if missing:
            where = f"(table {name} of the data source {source})"
            raise ValueError(
                f"A table of a data source must have its columns, got none named {', '.join(missing)} {where}. "
                "Add them, see core/sources/source.py."
            )
    for name in ("candidates", "ratings"):
        _check_values(getattr(tables, name), name, source)


def ratings_of(value: Any) -> list[int] | None:
    """Return a cell of ratings as whole numbers from 1 to 5, empty where it is null; None if it is anything else."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return []
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError):
        return None
    return [int(number) for number in numbers] if all(number in {1, 2, 3, 4, 5} for number in numbers) else None


def _check_values(table: pd.DataFrame | None, name: str, source: str) -> None:
    where = f"(table {name} of the data source {source})"
    for value in _cells(table, "ratings"):
        if not isinstance(value, str) and ratings_of(value) is None:
            msg = f"Ratings must be a list of whole numbers from 1 to 5, got {value!r:.80} {where}."
            raise ValueError(f"{msg} Leave out what is no rating.")
    for value in _cells(table, "is_malignant"):
        if not pd.isna(value) and str(value).strip().lower() not in _LABELS:
            msg = f"A label must be true or false, got {value!r:.80} {where}."
            raise ValueError(f"{msg} Use null where it is not known.")


def _cells(table: pd.DataFrame | None, column: str) -> Sequence[Any]:
    return [] if table is None or column not in table else list(table[column])
