"""CSV files without quotes and spaces, read by Arrow on all cores; ambiguous files are not read here."""

import gzip
import mmap
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import csv

# Bytes that need a parser with more rules: quotes, spaces and ends of text.
_ODD = (b'"', b" ", b"\0")


def read_clean_csv(
    path: Path, choose: Callable[[Sequence[str]], Mapping[str, str]], *, repeating: Collection[str]
) -> pd.DataFrame | None:
    """Read columns of a file that has no quotes, no spaces, UTF-8 and as many values a line as the header.

    Args:
        path: The file, ``.gz`` or not; its first line names the columns.
        choose: Maps the header's names to the columns to read: name in the table -> name in the file.
        repeating: Columns of the table with few different values.

    Returns:
        Text as written, a row a line: Arrow's strings, ``category`` where repeating. None where the file is not clean.
    """
    content = _content_of(path)
    header = None if content is None or any(content.find(odd) >= 0 for odd in _ODD) else _header_of(content)
    if content is None or header is None:
        return None
    chosen = choose(header)
    try:
        cells = _cells_of(content, {chosen[column]: column in repeating for column in chosen})
    except pa.ArrowInvalid:
        return None
    return pd.DataFrame({column: _text_of(cells[name]) for column, name in chosen.items()})


def _content_of(path: Path) -> mmap.mmap | None:
    """Return the content of a file, unpacked where it is packed; None where it is empty."""
    if path.suffix == ".gz":
        text = unpacked(path)
        content = mmap.mmap(-1, len(text)) if text else None
        if content is not None:
            content.write(text)
        return content
    with path.open("rb") as file:
        # Mapped: copying 66 MB would take a quarter of the reading time. It is unmapped with its last view.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else None


def unpacked(path: Path) -> bytes:
    """Return the unpacked content of a ``.gz`` file.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"A packed table must be whole, got: {error} ({path.name}). Copy it again.") from error


def _header_of(content: mmap.mmap) -> list[str] | None:
    """Return the columns' names; None where two are equal, one is empty, or the line end is ambiguous."""
    content.seek(0)
    try:
        line = content.readline().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        return None
    names = line.split(",")
    is_clean = all(names) and len(set(names)) == len(names) and "\r" not in line
    return names if is_clean else None


def _cells_of(content: mmap.mmap, is_repeating: Mapping[str, bool]) -> pa.Table:
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
