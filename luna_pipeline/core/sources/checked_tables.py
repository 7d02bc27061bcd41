"""Strict reading of a source's CSV tables: all faults of a table at once, or the table as text.

Nothing is repaired: a table with another separator, decimal commas, another encoding or lines of other lengths is
refused with its line. What programs add without harm (a byte order mark, quotes around values, DOS line ends, spaces
around values, blank lines) is accepted.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.clean_csv import read_clean_csv
from luna_pipeline.core.candidates.csv_columns import (
    SEPARATORS,
    Spellings,
    close_places,
    column_places,
    other_values,
    separator_of,
    shown_names,
)
from luna_pipeline.core.candidates.csv_content import Content, header_line, line_ends, read_content, split_line
from luna_pipeline.core.candidates.csv_tables import NUL_SIGN, parse_numbers
from luna_pipeline.core.sources.cell_rules import Column, faults_of_cells
from luna_pipeline.core.sources.faults import Fault, fault_of_error, raise_faults


@dataclass(frozen=True, eq=False)
class CheckedTable:
    """A table and everything that is wrong with it.

    Attributes:
        rows: The columns that were found, by our names, text without spaces around it; and ``line`` (int64, the header
            is 1). Lines that cannot be split into columns are left out; the other faulty rows are in it.
        faults: Its faults, the header's first.
    """

    rows: pd.DataFrame
    faults: tuple[Fault, ...]


def read_columns(
    path: Path, spellings: Spellings, required: Sequence[str], optional: Sequence[str] = ()
) -> pd.DataFrame:
    """Read columns of a CSV file as text, strictly.

    Args:
        path: The file, ``.gz`` or not; its first line names the columns.
        spellings: Names in the header by our name of a column.
        required: Columns by our names.
        optional: Columns that are read where they exist.

    Returns:
        The columns under our names (str, empty where the cell is), and ``line`` (int64, the header is 1).

    Raises:
        ValueError: If a column is missing or doubled, values are separated by other signs than commas, a line has more
            or fewer values than the header, a quote is not closed on its line, or a value of these columns is not
            UTF-8: the first fault with file and line, and the number of the others.
    """
    columns = [
        Column(name=name, spellings=tuple(spellings[name]), is_required=name in required, may_be_empty=True)
        for name in (*required, *optional)
    ]
    return read_checked(path, columns)


def read_checked(path: Path, columns: Sequence[Column], *, unique: Sequence[Sequence[str]] = ()) -> pd.DataFrame:
    """Read a table whose values keep the rules of its columns.

    Args:
        path: As for ``read_columns``.
        columns: Columns with the rules of their values.
        unique: Groups of columns that no two rows may share.

    Returns:
        As from ``read_columns``.

    Raises:
        ValueError: If anything is wrong: the first fault with file and line, and the number of the others.
    """
    checked = check_table(path, columns, unique=unique)
    raise_faults(checked.faults)
    return checked.rows


def check_table(path: Path, columns: Sequence[Column], *, unique: Sequence[Sequence[str]] = ()) -> CheckedTable:
    """Read a table and find all its faults.

    Args:
        path: As for ``read_columns``.
        columns: Columns with the rules of their values.
        unique: Groups of columns that no two rows may share.
    """
    faults: list[Fault] = []
    rows = pd.DataFrame({"line": np.empty(0, dtype=np.int64)})
    try:
        content = read_content(path)
        line = header_line(content, path.name)
        separator, names = _header(line, columns, faults, file=path.name)
        chosen = _chosen(names, columns, line, faults, file=path.name)
        if chosen:
            rows = _rows(content, names, chosen, faults, separator=separator, file=path.name)
    except ValueError as error:
        faults.append(fault_of_error(error, file=path.name))
    if separator_fault := next((fault for fault in faults if "separated by commas" in fault.rule), None):
        rows = _with_points(rows, columns)
        faults = [separator_fault, *(fault for fault in faults if fault is not separator_fault)]
    lines = rows["line"].to_numpy()
    # Where a table names patients, a value in a wrong place may be a name.
    is_secret = any(column.is_secret for column in columns)
    for column in (replace(column, is_secret=is_secret) for column in columns):
        if column.name in rows:
            faults += faults_of_cells(column, rows[column.name], lines, file=path.name)
    for keys in unique:
        faults += _faults_of_doubles(rows, keys, columns, file=path.name)
    return CheckedTable(rows, tuple(faults))


def _header(line: str, columns: Sequence[Column], faults: list[Fault], *, file: str) -> tuple[str, list[str]]:
    """Return the separator of the header and its names."""
    names = split_line(line)
    spellings = {column.name: column.spellings or (column.name,) for column in columns}
    if not any(close_places(names, column, spellings) for column in spellings):
        separator = separator_of(line, list(spellings), spellings)
        if separator is not None:
            cure = "Export the table with commas, and with points in numbers."
            rule = "Values must be separated by commas"
            faults.append(Fault(rule=rule, got=SEPARATORS[separator], cure=cure, file=file, lines=(1,)))
            return separator, [part.strip().strip('"') for part in line.split(separator)]
    return ",", names


def _chosen(
    names: Sequence[str], columns: Sequence[Column], line: str, faults: list[Fault], *, file: str
) -> dict[str, int]:
    """Return the place of each column that is there; missing, doubled and misspelled ones are faults."""
    spellings = {column.name: column.spellings or (column.name,) for column in columns}
    places = {column: close_places(names, column.name, spellings) for column in columns}
    missing = [column.header for column in columns if column.is_required and not places[column]]
    if missing and not any(places.values()):
        rule = f"The first line must name the columns {', '.join(missing)}"
        cure = "Insert a line with the names."
        faults.append(Fault(rule=rule, got=other_values(names), cure=cure, file=file, lines=(1,)))
        return {}
    if missing:
        rule, cure = f"Column {', '.join(missing)} must be in the table", "Rename or add it in the first line."
        faults.append(Fault(rule=rule, got=shown_names(names), cure=cure, file=file, lines=(1,)))
    for column, found in places.items():
        if len(found) > 1:
            got, cure = ", ".join(names[place] for place in found), "Rename or remove all but one."
            rule = f"Column {column.header} must be in the table once"
            faults.append(Fault(rule=rule, got=got, cure=cure, file=file, lines=(1,)))
        elif found and not column_places(names, column.name, spellings):
            rule, cure = f"Column {column.header} must be spelled so", f"Rename it to {column.header}."
            faults.append(Fault(rule=rule, got=names[found[0]], cure=cure, file=file, lines=(1,)))
    return {column.name: found[0] for column, found in places.items() if found}


def _rows(
    content: Content,
    names: Sequence[str],
    chosen: dict[str, int],
    faults: list[Fault],
    *,
    separator: str,
    file: str,
) -> pd.DataFrame:
    table = read_clean_csv(content, names, chosen, repeating=()) if separator == "," else None
    if table is not None:
        table = table.astype(object).assign(line=np.arange(2, len(table) + 2, dtype=np.int64))
        is_blank = (table[list(chosen)] == "").all(axis=1)
        # Arrow reads an empty line as one empty value: it is no row of a table of one column.
        return table[~is_blank].reset_index(drop=True)
    split = _SplitLines(content, num_columns=len(names), separator=separator, file=file)
    lines, values = [], []
    for line, cells in split:
        lines.append(line)
        values.append([cells[place] for place in chosen.values()])
    faults += split.faults()
    cells_of = np.array(values, dtype=object).reshape(len(values), len(chosen))
    rows = pd.DataFrame(cells_of, columns=list(chosen), dtype=object)
    return rows.assign(line=np.array(lines, dtype=np.int64))


class _SplitLines:
    """The lines of a table after its header, split into values; those that cannot be split are kept as faults."""

    def __init__(self, content: Content, *, num_columns: int, separator: str, file: str) -> None:
        self._content, self._num_columns, self._separator, self._file = content, num_columns, separator, file
        self._ends = line_ends(content, file)
        self._unequal: dict[int, int] = {}
        self._unclosed: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for number, (start, end) in enumerate(zip(self._ends, self._ends[1:], strict=False), start=2):
            text = self._content[start:end].decode("utf-8", errors="replace").strip("\r\n").replace("\0", NUL_SIGN)
            if text.count('"') % 2:
                self._unclosed.append(number)
                continue
            cells = self._split(text)
            if len(cells) == self._num_columns and any(cells):
                yield number, cells
            elif any(cells):
                self._unequal[number] = len(cells)

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of the lines that were left out."""
        if self._unclosed:
            rule, cure = "A quote must be closed on its line", "Close or remove it."
            lines = tuple(self._unclosed)
            yield Fault(rule=rule, got="one that is not", cure=cure, file=self._file, lines=lines)
        if self._unequal:
            got, lines = f"{next(iter(self._unequal.values()))}", tuple(self._unequal)
            rule = f"A line must have {self._num_columns} values as the header"
            cure = "Correct it: a comma within a value, as in 1,5 or a list, separates two values unless it is quoted."
            yield Fault(rule=rule, got=got, cure=cure, file=self._file, lines=lines)

    def _split(self, text: str) -> list[str]:
        if self._separator == ",":
            return split_line(text) if text.strip() else []
        return [cell.strip() for cell in next(csv.reader([text], delimiter=self._separator), [])]


def _with_points(rows: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """Write decimal commas as points: with another separator they are a part of the same fault."""
    numbers = [it.name for it in columns if it.name in rows and it.kind in ("number", "whole")]
    return rows.assign(**{name: rows[name].str.replace(",", ".", regex=False) for name in numbers})


def _faults_of_doubles(
    rows: pd.DataFrame, keys: Sequence[str], columns: Sequence[Column], *, file: str
) -> Iterator[Fault]:
    if rows.empty or not set(keys) <= set(rows.columns):
        return
    # Most tables have no doubles; numbers are compared as numbers: 1.50 is 1.5.
    compared = rows[list(keys)].copy()
    for column in columns:
        if column.name in keys and column.kind in ("number", "whole"):
            compared[column.name] = parse_numbers(rows[column.name])[0]
    is_filled = (rows[list(keys)] != "").all(axis=1) & compared.notna().all(axis=1)
    is_double: NDArray[np.bool_] = (compared.duplicated(keep=False) & is_filled).to_numpy(dtype=bool)
    names = ", ".join(column.header for column in columns if column.name in keys)
    for _, group in rows[is_double].groupby([compared.loc[is_double, key] for key in keys], sort=False):
        rule = f"Each row must have its own {names}"
        got = f"the same in {len(group)} rows"
        lines = tuple(group["line"].tolist())
        yield Fault(rule=rule, got=got, cure="Keep one of them.", file=file, lines=lines)
