"""CSV files without quotes and spaces, read by Arrow on all cores; ambiguous files are not read here."""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import csv

from luna_pipeline.core.candidates.csv_content import Content

# Bytes that need a parser with more rules: quotes, spaces and ends of text.
_ODD = (b'"', b" ", b"\0")


def read_clean_csv(
    content: Content, names: Sequence[str], chosen: Mapping[str, int], *, repeating: Collection[str]
) -> pd.DataFrame | None:
    """Read columns of a file that has no quotes, no spaces, UTF-8 and as many values a line as the header.

    Args:
        content: As from ``read_content``.
        names: The values of its first line.
        chosen: Columns to read: name in the table -> place in ``names``.
        repeating: Columns of the table with few different values.

    Returns:
        Text as written, a row a line: Arrow's strings, ``category`` where repeating. None where the file is not clean.
    """
    if any(content.find(odd) >= 0 for odd in _ODD) or not _is_clean_header(content, names):
        return None
    try:
        cells = _cells_of(content, {names[place]: column in repeating for column, place in chosen.items()})
    except pa.ArrowInvalid:
        return None
    return pd.DataFrame({column: _text_of(cells[names[place]]) for column, place in chosen.items()})


def _is_clean_header(content: Content, names: Sequence[str]) -> bool:
    """Return whether the first line is the names and nothing else, and none is empty or there twice."""
    end = content.find(b"\n")
    line = bytes(content[: end if end >= 0 else len(content)]).removesuffix(b"\r").removeprefix(b"\xef\xbb\xbf")
    is_same = line.split(b",") == [name.encode() for name in names]
    return is_same and all(names) and len(set(names)) == len(names)


def _cells_of(content: Content, is_repeating: Mapping[str, bool]) -> pa.Table:
    text = pa.string()
    types = {name: pa.dictionary(pa.int32(), text) if repeats else text for name, repeats in is_repeating.items()}
    return csv.read_csv(
        pa.BufferReader(pa.py_buffer(content)),
        # An empty line counts: lines are numbered as in the file.
        parse_options=csv.ParseOptions(ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(column_types=types, include_columns=list(types)),
    )


def _text_of(cells: pa.ChunkedArray) -> pd.Series:
    is_repeating = pa.types.is_dictionary(cells.type)
    return pd.Series(cells.to_pandas() if is_repeating else pd.arrays.ArrowExtensionArray(cells.combine_chunks()))
