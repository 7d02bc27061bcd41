"""Bytes and header of a CSV file: the only place that opens and unpacks tables and checks their form and size."""

import csv
import gzip
import itertools
import mmap
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.byte_limits import byte_limit
from luna_pipeline.core.storage.regular_files import open_regular

Content = bytes | mmap.mmap

MAX_COLUMNS = 4096
MAX_ROWS = 5_000_000
"""Rows of a table; LUNA16's longest has 754,975."""
MAX_LINE_BYTES = 1 << 20
# Of a shorter table, every byte may be a row. Counting the lines of LUNA16's longest table, 66 MB, takes 5 ms.
_UNCOUNTED_BYTES = 16 << 20
_BLOCK_BYTES = 1 << 20
_LINE_END = re.compile(rb"\r\n|\n|\r")
# Spaces, ends of lines, and the mark that UTF-8 may start with.
_BLANK = b" \t\r\n\xef\xbb\xbf"
_OPEN_DESCRIPTORS = Path("/dev/fd")
# First bytes of files that are no text, and what to do; the longest first.
_SIGNATURES = (
    (b"\xff\xfe\x00\x00", "UTF-32", "Save it as CSV in UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32", "Save it as CSV in UTF-8"),
    (b"\xff\xfe", "UTF-16", "Save it as CSV in UTF-8"),
    (b"\xfe\xff", "UTF-16", "Save it as CSV in UTF-8"),
    (b"PK\x03\x04", "an Excel or ZIP file", "Export the sheet as CSV in UTF-8, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an Excel file", "Export the sheet as CSV in UTF-8"),
    (b"\x1f\x8b", "a gzip file", "Give it the suffix .gz or unpack it"),
    (b"BZh", "a bzip2 file", "Unpack it"),
    (b"\xfd7zXZ", "an xz file", "Unpack it"),
    (b"PAR1", "a parquet file", "Export it as CSV in UTF-8"),
    (b"version https://git-lfs", "a Git LFS pointer", "Fetch the file itself with `git lfs pull`"),
    (b"<", "HTML or XML", "Download the table itself"),
)


def max_table_bytes() -> int:
    """Return the largest number of bytes of an unpacked table.

    256 MiB, four times LUNA16's largest; the variable ``LUNA_MAX_TABLE_MIB`` sets another limit.

    Raises:
        ValueError: If the variable is no positive number.
    """
    return byte_limit("LUNA_MAX_TABLE_MIB", default=256.0)


def read_content(path: Path, *, first_line: str = "a header line") -> Content:
    """Return the text of a table as bytes, unpacked where it is packed.

    Args:
        path: A regular file, ``.gz`` or not, or an open pipe (``/dev/fd/N``).
        first_line: What its first line must be, for the message about an empty file.

    Raises:
        NotRegularFileError: If it is a FIFO, a folder or a device.
        ValueError: If it is empty, damaged, above ``max_table_bytes``, has more than ``MAX_ROWS`` rows, or is no text
            in UTF-8. Unpacking stops at the limit.
    """
    limit = max_table_bytes()
    is_pipe = path.parent == _OPEN_DESCRIPTORS
    with path.open("rb") if is_pipe else open_regular(path) as file:
        if path.suffix == ".gz":
            content: Content = _unpacked(file, limit, path.name)
        elif is_pipe:
            content = file.read(limit + 1)
        else:
            # Mapped: copying 66 MB would take a quarter of the reading time. It is unmapped with its last view.
            num_bytes = file.seek(0, 2)
            _check_num_bytes(num_bytes, limit, path.name)
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if num_bytes else b""
    _check_num_bytes(len(content), limit, path.name)
    _check_is_text(content, path.name, first_line)
    _check_num_rows(content, path.name)
    return content


def header_line(content: Content, file: str) -> str:
    """Return the first line of a table, without its end.

    Raises:
        ValueError: If it is blank, has more than ``MAX_COLUMNS`` values, or is longer than ``MAX_LINE_BYTES``.
    """
    line = _LINE_END.split(content[: MAX_LINE_BYTES + 1], maxsplit=1)[0]
    if (num_columns := line.count(b",") + 1) > MAX_COLUMNS:
        rule = f"A table must have at most {MAX_COLUMNS} columns, got {num_columns} or more ({file} line 1)."
        raise ValueError(f"{rule} Keep those that are needed.")
    if len(line) > MAX_LINE_BYTES:
        raise _too_long(1, file)
    text = line.decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise ValueError(f"The first line must name the columns, got a blank line ({file} line 1). Remove it.")
    return text


def split_line(line: str) -> list[str]:
    """Return the values of a line, without the spaces around them."""
    try:
        return [value.strip() for value in next(csv.reader([line], skipinitialspace=True))]
    # A value above the module's limit of 131,072 characters.
    except csv.Error:
        return [value.strip() for value in line.split(",")]


def line_ends(content: Content, file: str) -> NDArray[np.int64]:
    """Return where each line ends, its end included, shape (L,); a last line may lack its end.

    Raises:
        ValueError: If a line is longer than ``MAX_LINE_BYTES``, or there are more than ``MAX_ROWS`` rows.
    """
    places = (match.end() for match in _LINE_END.finditer(content))
    ends = np.fromiter(itertools.islice(places, MAX_ROWS + 2), dtype=np.int64)
    if len(ends) > MAX_ROWS + 1:
        raise _too_many_rows(file)
    if not len(ends) or ends[-1] < len(content):
        ends = np.append(ends, len(content))
    is_long = np.diff(ends, prepend=0) > MAX_LINE_BYTES
    if is_long.any():
        raise _too_long(int(is_long.argmax()) + 1, file)
    return ends


def line_with_open_quote(content: Content, ends: Sequence[int] | NDArray[np.int64]) -> int | None:
    """Return the number of the first line with an odd number of quotes, None without one."""
    starts = itertools.chain([0], ends)
    odd = (content[start:end].count(b'"') % 2 for start, end in zip(starts, ends, strict=False))
    return next((number for number, is_odd in enumerate(odd, start=1) if is_odd), None)


def open_quote_error(file: str, line: int | None) -> ValueError:
    """Return the error of a quote that is not closed on its line."""
    place = file if line is None else f"{file} line {line}"
    return ValueError(f"A quote must be closed on its line, got one that is not ({place}). Close or remove it.")


def _unpacked(file: BinaryIO, limit: int, name: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=file) as packed:
            # GzipFile.read(n) unpacks no more than n bytes.
            return packed.read(limit + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"A packed table must be whole, got: {error} ({name}). Copy it again.") from error


def _check_num_bytes(num_bytes: int, limit: int, file: str) -> None:
    if num_bytes > limit:
        rule = f"A table must have at most {limit / (1 << 20):g} MiB unpacked, got more ({file})."
        raise ValueError(f"{rule} Split it; if it is right, set LUNA_MAX_TABLE_MIB to more.")


def _check_is_text(content: Content, file: str, first_line: str) -> None:
    head = bytes(content[:4096])
    found = next(((kind, cure) for signature, kind, cure in _SIGNATURES if head.startswith(signature)), None)
    # Elsewhere a NUL byte costs its row only.
    if found is None and b"\0" in _LINE_END.split(head, maxsplit=1)[0]:
        counts = sorted(head[phase::2].count(b"\0") for phase in (0, 1))
        is_utf_16 = counts[0] == 0 and counts[1] > len(head) // 4
        kind = "UTF-16 without its mark" if is_utf_16 else "bytes that are no text (NUL)"
        found = kind, "Save it as CSV in UTF-8" if is_utf_16 else "Copy it again"
    if found is not None:
        raise ValueError(f"A table must be text in UTF-8, got {found[0]} ({file}). {found[1]}.")
    if not head.strip(_BLANK) and not content[:].strip(_BLANK):
        raise ValueError(f"A table must have {first_line}, got an empty file ({file}). Copy it again.")


def _check_num_rows(content: Content, file: str) -> None:
    if len(content) <= _UNCOUNTED_BYTES:
        return
    starts = range(0, len(content), _BLOCK_BYTES)
    if sum(content[start : start + _BLOCK_BYTES].count(b"\n") for start in starts) > MAX_ROWS + 1:
        raise _too_many_rows(file)


def _too_many_rows(file: str) -> ValueError:
    return ValueError(f"A table must have at most {MAX_ROWS:,} rows, got more ({file}). Split it or remove rows.")


def _too_long(line: int, file: str) -> ValueError:
    rule = f"A line must have at most {MAX_LINE_BYTES:,} bytes, got more ({file} line {line})."
    return ValueError(f"{rule} Correct or remove that line.")
