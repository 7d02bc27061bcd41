"""LUNA16's CSV files as text, with one spelling of their columns."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pandas.api.types import union_categoricals

from luna_pipeline.core.candidates.clean_csv import read_clean_csv
from luna_pipeline.core.candidates.csv_columns import choose_columns
from luna_pipeline.core.candidates.csv_content import (
    Content,
    header_line,
    line_ends,
    line_with_open_quote,
    open_quote_error,
    read_content,
    split_line,
)

# Columns with few different values; the others are Arrow's strings, which Arrow converts to numbers.
REPEATING = ("series_instance_uid", "class", "subset")
TEXT = pd.ArrowDtype(pa.string())
NUL_SIGN = "\u2400"
# Rows of a wide table are read in parts: each cell takes 8 bytes and more.
_CELLS_AT_A_TIME = 4_000_000


def read_table(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read columns of a CSV file as text.

    Args:
        path: The file, ``.gz`` or not; its first line names the columns.
        columns: Columns by our names (keys of ``SPELLINGS``), ``series_instance_uid`` among them.
        optional: Columns that are read where they exist.

    Returns:
        The columns under our names, as written but for spaces around a uid (Arrow's strings, ``category`` for those of
        ``REPEATING``), and ``line`` (int64, the header is 1). Values missing in a short line are empty text; blank
        lines are skipped; a NUL byte becomes the sign "\u2400", so that its cell is no number.

    Raises:
        NotRegularFileError: If the file is a FIFO, a folder or a device.
        ValueError: If the file is no UTF-8 text or exceeds a limit of ``csv_content``; a column is missing or doubled
            (names those found); values are separated by other signs than commas; a line has too many values; or a
            quote is not closed on its line.
    """
    content = read_content(path)
    line = header_line(content, path.name)
    names = split_line(line)
    chosen = choose_columns(names, line, columns, optional, file=path.name)
    table = read_clean_csv(content, names, chosen, repeating=REPEATING)
    # A line without a uid may be blank.
    if table is None or any(uid.strip() != uid or not uid for uid in table["series_instance_uid"].cat.categories):
        return _read_carefully(content, names, chosen, file=path.name)
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


def _read_carefully(content: Content, names: Sequence[str], chosen: Mapping[str, int], *, file: str) -> pd.DataFrame:
    """Read any table, with quotes, spaces and blank lines."""
    ends = line_ends(content, file)
    parts, are_blank = [], []
    for raw in _read_text(content, ends, num_columns=len(names), file=file):
        part = {column: raw.iloc[:, place].fillna("") for column, place in chosen.items()}
        part["series_instance_uid"] = part["series_instance_uid"].str.strip()
        parts.append({column: _typed(column, text) for column, text in part.items()})
        are_blank.append((raw == "").all(axis=1).to_numpy())
    table = pd.DataFrame({column: _concatenated([part[column] for part in parts]) for column in chosen})
    if len(table) != len(ends) - 1:
        raise open_quote_error(file, line_with_open_quote(content, ends))
    table["line"] = np.arange(2, len(table) + 2, dtype=np.int64)
    is_blank = np.concatenate(are_blank)
    return table[~is_blank].reset_index(drop=True) if is_blank.any() else table


def _typed(column: str, text: pd.Series) -> pd.Series:
    return text.astype("category" if column in REPEATING else TEXT)


def _concatenated(parts: list[pd.Series]) -> pd.Series:
    if isinstance(parts[0].dtype, pd.CategoricalDtype):
        return pd.Series(union_categoricals(parts, sort_categories=True))
    return pd.concat(parts, ignore_index=True)


def _read_text(content: Content, ends: NDArray[np.int64], *, num_columns: int, file: str) -> Iterator[pd.DataFrame]:
    """Read all cells as text, blank lines too, some rows at a time."""
    try:
        with warnings.catch_warnings():
            # pandas only warns where it drops surplus values of a long line.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield from pd.read_csv(
                # pandas ends a text at a NUL byte: "1\0" would be the number 1.
                io.BytesIO(bytes(content).replace(b"\0", NUL_SIGN.encode())),
                # Without NA values: "NaN" and an empty cell are different errors.
                dtype=str,
                na_filter=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                encoding="utf-8-sig",
                encoding_errors="replace",
                index_col=False,
                chunksize=max(1, _CELLS_AT_A_TIME // num_columns),
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = str(error).strip().splitlines()[-1]
        if "EOF inside string" in reason:
            raise open_quote_error(file, line_with_open_quote(content, ends)) from error
        msg = f"Each line must have as many values as the header, got: {reason} ({file}). Correct that line."
        raise ValueError(msg) from error
