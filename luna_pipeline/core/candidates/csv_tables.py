"""LUNA16's CSV files as text, with one spelling of their columns."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from luna_pipeline.core.candidates.clean_csv import read_clean_csv

# Accepted file names; the first existing one is read.
CANDIDATE_FILES = ("candidates_V2.csv", "candidates.csv")
ANNOTATION_FILES = ("annotations.csv",)
MALIGNANCY_FILES = ("annotations_with_malignancy.csv",)
SUBSET_FILES = ("luna16_subsets.csv",)

# Our name -> the spellings of LUNA16, the book and the tutorial; messages use the first.
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "series_instance_uid": ("seriesuid", "series_instance_uid"),
    "x": ("coordX", "coord_x"),
    "y": ("coordY", "coord_y"),
    "z": ("coordZ", "coord_z"),
    "class": ("class",),
    "diameter_mm": ("diameter_mm",),
    "is_malignant": ("is_malignant", "mal_bool"),
    "ratings": ("malignant_details", "malignancies"),
    "subset": ("subset",),
    "probability": ("probability",),
}

# Columns with few different values; the others are Arrow's strings, which Arrow converts to numbers.
REPEATING = ("series_instance_uid", "class", "subset")
TEXT = pd.ArrowDtype(pa.string())


def find_table(data_root: Path, names: Sequence[str]) -> Path | None:
    """Return the first of the files that exists, None without one."""
    return next((data_root / name for name in names if (data_root / name).is_file()), None)


def read_table(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read columns of a CSV file as text.

    Args:
        path: The file, ``.gz`` or not; its first line names the columns.
        columns: Columns by our names (keys of ``SPELLINGS``), ``series_instance_uid`` among them.
        optional: Columns that are read where they exist.

    Returns:
        The columns under our names, as written but for spaces around a uid (Arrow's strings, ``category`` for those of
        ``REPEATING``), and ``line`` (int64, the header is 1). Values missing in a short line are empty text; blank
        lines are skipped.

    Raises:
        ValueError: If a column is missing (names the file, the column and those found), or a line has too many values.
    """

    def choose(header: Sequence[str]) -> dict[str, str]:
        return _chosen(header, columns, optional, file=path.name)

    table = read_clean_csv(path, choose, repeating=REPEATING)
    # A line without a uid may be blank.
    if table is None or any(uid.strip() != uid or not uid for uid in table["series_instance_uid"].cat.categories):
        return _read_carefully(path, choose)
    return table.assign(line=np.arange(2, len(table) + 2, dtype=np.int64))


def as_arrow(text: pd.Series) -> pa.StringArray:
    """Return text as one Arrow array."""
    cells = pa.array(text, type=pa.string())
    return cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells


def parse_numbers(text: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Parse text as numbers.

    Returns:
        Values (N,), correctly rounded, NaN where the text is no number; and whether it is a number (N,): "NaN" and
        "inf" are, "abc" and "" are not.
    """
    if isinstance(text.dtype, pd.CategoricalDtype):
        codes = text.cat.codes.to_numpy()
        values, is_number = parse_numbers(pd.Series(text.cat.categories, dtype=object))
        return values[codes], is_number[codes]
    try:
        values = np.asarray(pc.cast(as_arrow(text), pa.float64()))
        # Arrow reads some words as NaN that Python does not.
        if np.isfinite(values).all():
            return values, np.ones(len(values), dtype=bool)
    except pa.ArrowInvalid:
        pass
    numbers = [_number_of(word) for word in text.to_numpy(dtype=object)]
    values = np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)
    return values, np.array([number is not None for number in numbers], dtype=bool)


def _number_of(word: str) -> float | None:
    try:
        return None if "_" in word else float(word)
    except ValueError:
        return None


def _read_carefully(path: Path, choose: Callable[[Sequence[str]], Mapping[str, str]]) -> pd.DataFrame:
    """Read any table, with quotes, spaces and blank lines."""
    raw = _read_text(path)
    found = {name.strip(): name for name in raw.columns}
    table = pd.DataFrame({column: raw[found[name]].fillna("") for column, name in choose(list(found)).items()})
    table["series_instance_uid"] = table["series_instance_uid"].str.strip()
    table = table.astype({column: "category" if column in REPEATING else TEXT for column in table})
    table["line"] = np.arange(2, len(table) + 2, dtype=np.int64)
    is_blank = (raw == "").all(axis=1) if len(raw) and "" in set(raw.iloc[:, 0]) else None
    return table if is_blank is None else table[~is_blank].reset_index(drop=True)


def _read_text(path: Path) -> pd.DataFrame:
    """Read all cells as text, blank lines too."""
    try:
        with warnings.catch_warnings():
            # pandas only warns where it drops surplus values of a long line.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Without NA values: "NaN" and an empty cell are different errors.
            return pd.read_csv(
                path,
                dtype=str,
                na_filter=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                encoding="utf-8-sig",
                encoding_errors="replace",
                index_col=False,
            )
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"A table must have a header line, got an empty file ({path.name}). Copy it again.") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = str(error).strip().splitlines()[-1]
        msg = f"Each line must have as many values as the header, got: {reason} ({path.name}). Correct that line."
        raise ValueError(msg) from error


def _chosen(header: Sequence[str], columns: Sequence[str], optional: Sequence[str], *, file: str) -> dict[str, str]:
    """Return the file's names of the columns, by ours."""
    wanted = (*columns, *optional)
    chosen = {column: next((name for name in SPELLINGS[column] if name in header), None) for column in wanted}
    missing = [SPELLINGS[column][0] for column in columns if chosen[column] is None]
    if missing:
        msg = f"Column {', '.join(missing)} must be in the table, got {', '.join(header)} ({file})."
        raise ValueError(f"{msg} Rename or add it in the first line.")
    return {column: name for column, name in chosen.items() if name is not None}
