"""Tables as other programs and people leave them: each variant of a table's bytes, and whether it means the same."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from luna_pipeline.core.candidates.csv_columns import column_places
from luna_pipeline.core.candidates.table_places import find_table
from luna_pipeline.core.sources.table_forms import TableForm

Rows = list[list[str]]


class Table:
    """A clean table of a source: its text, its rows, and where its columns are."""

    def __init__(self, root: Path, form: TableForm) -> None:
        self.form, self.path = form, find_table(root, form.files)
        self.text = self.path.read_text().replace("\r\n", "\n")
        self.rows = list(csv.reader(io.StringIO(self.text)))
        names = {column.name: column.spellings or (column.name,) for column in form.columns}
        self.place = {name: found[0] for name in names if (found := column_places(self.rows[0], name, names))}

    def of_kind(self, *kinds: str) -> list[int]:
        """Return the places of the columns of a kind."""
        return [self.place[it.name] for it in self.form.columns if it.kind in kinds and it.name in self.place]

    def changed(self, places: list[int], change: Callable[[str], str], *, only: int | None = None) -> Rows:
        """Return the rows with some cells changed, of all rows or one."""
        return [
            [change(cell) if at in places and number and only in (None, number) and cell else cell for at, cell in row]
            for number, row in ((number, list(enumerate(row))) for number, row in enumerate(self.rows))
        ]


def written(rows: Rows, **options: object) -> bytes:
    """Return rows as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", **options).writerows(rows)
    return out.getvalue().encode()


def same(table: Table) -> Iterator[tuple[str, bytes]]:
    """Yield the variants that mean the same as the clean table."""
    text, rows = table.text, table.rows
    yield "bom", text.encode("utf-8-sig")
    yield "dos line ends", text.replace("\n", "\r\n").encode()
    yield "old Mac line ends", text.replace("\n", "\r").encode()
    yield "all quoted", written(rows, quoting=csv.QUOTE_ALL)
    yield (
        "blanks around values",
        "\n".join(",".join(f' "{cell}" ' if "," in cell else f" {cell} " for cell in row) for row in rows).encode(),
    )
    yield "blank lines", text.replace("\n", "\n\n").encode()
    yield "index column", written([["", *rows[0]], *([str(number), *row] for number, row in enumerate(rows[1:]))])
    yield "columns in another order", written([row[::-1] for row in rows])
    numbers = table.of_kind("number")
    if numbers:
        yield "exponents", written(table.changed(numbers, lambda cell: f"{float(cell):.16E}"))


def refused(table: Table, *, has_own_reader: bool = True) -> Iterator[tuple[str, bytes]]:
    """Yield the variants that do not; those of files and headers only for a table with its own reader."""
    if has_own_reader:
        yield from _of_files(table)
        yield from _of_headers(table)
    yield from _of_cells(table)
    yield from _of_series(table)
    if table.form.points:
        yield from _of_points(table)


def _of_files(table: Table) -> Iterator[tuple[str, bytes]]:
    text, rows = table.text, table.rows
    yield "UTF-16", text.encode("utf-16")
    yield "UTF-16 without mark", text.encode("utf-16-le")
    yield "UTF-32", text.encode("utf-32")
    yield "empty", b""
    yield "blank", b"\n \n"
    yield "an Excel file", b"PK\x03\x04" + text.encode()
    yield "a web page", b"<!DOCTYPE html><html></html>"
    yield "semicolons", written(rows, delimiter=";")
    yield "tabs", written(rows, delimiter="\t")
    german = table.changed(table.of_kind("number"), lambda cell: cell.replace(".", ","))
    yield "semicolons and decimal commas", written(german, delimiter=";")


def _of_headers(table: Table) -> Iterator[tuple[str, bytes]]:
    rows, place = table.rows, table.place
    yield "no header", written(rows[1:])
    for column in [column for column in table.form.columns if column.is_required][:2]:
        if column.name in place:
            at = place[column.name]
            yield f"without {column.header}", written([row[:at] + row[at + 1 :] for row in rows])
            upper = [name.swapcase() if number == at else name for number, name in enumerate(rows[0])]
            yield f"{column.header} in another case", written([upper, *rows[1:]])
            yield f"{column.header} twice", written([[*row, row[at]] for row in rows])


def _of_cells(table: Table) -> Iterator[tuple[str, bytes]]:
    rows, numbers = table.rows, table.of_kind("number", "whole")
    last = len(rows) - 1
    decimals = [at for at in table.of_kind("number") if any("." in row[at] for row in rows[1:])]
    if decimals:
        commas = table.changed(decimals, lambda cell: cell.replace(".", ","))
        yield "decimal commas in quotes", written(commas)
        yield "decimal commas", "\n".join(",".join(row) for row in commas).encode()
    for what, cell in (("a word", "near"), ("a list", "1,2"), ("a unit", "1 mm"), ("NUL", "1\0"), ("infinity", "inf")):
        yield f"{what} as a number", written(table.changed(numbers[:1], lambda _, cell=cell: cell, only=last))
    yield "a longer line", written([*rows[:-1], [*rows[-1], "7"]])
    yield "a shorter line", written([*rows[:-1], rows[-1][:-1]])
    yield "an open quote", written(rows[:-1]) + b'"' + ",".join(rows[-1]).encode() + b"\n"
    if any("," in cell for row in rows for cell in row):
        yield "lists without quotes", "\n".join(",".join(row) for row in rows).encode()
    if table.form.unique:
        yield "a row twice", written([*rows, rows[-1]])


def _of_series(table: Table) -> Iterator[tuple[str, bytes]]:
    for column in table.form.columns:
        if column.name == table.form.series and column.kind == "uid":
            places = [table.place[column.name]]
            yield "uids with a suffix", written(table.changed(places, lambda uid: f"{uid}.mhd"))
            yield "uids with an apostrophe", written(table.changed(places, lambda uid: f"'{uid}"))
            excel = table.changed(places, lambda uid: f"{float(re.sub(r'[^0-9]', '', uid)[-30:]):.5E}")
            yield "uids as numbers of a spreadsheet", written(excel)
            latin = written(table.changed(places, lambda uid: f"{uid}ä", only=len(table.rows) - 1))
            yield "Latin-1", latin.decode().encode("latin-1")


def _of_points(table: Table) -> Iterator[tuple[str, bytes]]:
    x, y, z = (table.place[name] for name in table.form.points)
    yield "RAS", written(table.changed([x, y], lambda cell: f"{-float(cell):.10g}"))
    yield "cm", written(table.changed([x, y, z], lambda cell: f"{float(cell) / 10:.10g}"))
    swapped = [[row[{x: z, z: x}.get(at, at)] for at in range(len(row))] for row in table.rows[1:]]
    yield "z, y, x", written([table.rows[0], *swapped])
    if "diameter_mm" in table.place:
        at = [table.place["diameter_mm"]]
        shrunk = table.changed(at, lambda cell: cell if float(cell) < 0 else f"{float(cell) / 10:.10g}")
        yield "diameters in cm", written(shrunk)
        grown = table.changed(at, lambda cell: cell if float(cell) < 0 else f"{float(cell) * 1000:.10g}")
        yield "diameters in µm", written(grown)
