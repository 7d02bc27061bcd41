"""Malformed tables: cells, columns, separators, quotes, encodings, sizes and bytes."""

import gzip
import os
import random
from pathlib import Path

from luna_pipeline_tests.fuzz.inputs import TEXTS, Malformed, damaged, uid_of

UIDS = ("1.2.1", "1.2.2")
_POINT = ("coordX", "coordY", "coordZ")
TABLES = {
    "candidates.csv": ("seriesuid", *_POINT, "class"),
    "annotations.csv": ("seriesuid", *_POINT, "diameter_mm"),
    "luna16_subsets.csv": ("seriesuid", "subset"),
    "annotations_with_malignancy.csv": (
        *("seriesuid", "coord_x", "coord_y", "coord_z", "diameter_mm", "is_malignant", "malignant_details"),
    ),
}
SUBMISSION_TABLES = {
    "predictions.csv": ("seriesuid", *_POINT, "probability"),
    "annotations.csv": ("seriesuid", *_POINT, "diameter_mm"),
    "excluded.csv": ("seriesuid", *_POINT, "diameter_mm"),
    "series.csv": ("seriesuid",),
}
_CELLS = (
    *TEXTS,
    "150000",
    "-1e300",
    "1e5",
    "9.9999999999e4",
    '"1"',
    '"',
    '1"',
    "1.3E+51",
    "1.2.1.nii.gz",
    "'1.2.1",
    "1 ",
)
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7")
# Bytes of a packed table; packed, it is a thousandth.
_BOMB_BYTES = 64 << 20


def table(rng: random.Random, name: str) -> Malformed:
    """Return LUNA16's tables, of which one was changed."""
    files = {
        path: _lines(rng, path, columns)
        for path, columns in TABLES.items()
        if path.startswith("c") or rng.random() < 0.5
    }
    return _changed(rng, name, files, has_packed=False)


def submission(rng: random.Random, name: str) -> Malformed:
    """Return the tables of an evaluation, of which one was changed."""
    files = {path: _lines(rng, path, columns) for path, columns in SUBMISSION_TABLES.items()}
    files["series.csv"] = list(map(list, zip(UIDS, strict=True)))
    return _changed(rng, name, files, has_packed=True)


def _lines(rng: random.Random, path: str, columns: tuple[str, ...]) -> list[list[str]]:
    """Return the header and six rows; points lie in the CTs of the tests."""
    rows = [list(columns)]
    values = {"class": ("0", "1"), "subset": ("0", "1"), "is_malignant": ("True", "False")}
    for number in range(6):
        row = [UIDS[number % 2]]
        if path == "luna16_subsets.csv" and number > 1:
            break
        for column in columns[1:]:
            if column in values:
                row.append(rng.choice(values[column]))
            elif column == "malignant_details":
                row.append('"[3, 4]"')
            elif column == "probability":
                row.append(f"{rng.random():.4f}")
            elif column == "diameter_mm":
                row.append(f"{rng.uniform(3, 20):.2f}")
            else:
                low, high = {"x": (-50, -43.7), "y": (-40, -34.4), "z": (-300, -287.5)}[column[-1].lower()]
                row.append(f"{rng.uniform(low, high):.3f}")
        rows.append(row)
    return rows


def _changed(rng: random.Random, name: str, files: dict[str, list[list[str]]], *, has_packed: bool) -> Malformed:
    chosen = rng.choice(sorted(files))
    rows = files[chosen]
    way = rng.choice(["cell"] * 5 + ["header", "shape", "separator", "encoding", "bytes", "size", "kind", "packed"])
    change, separator, end = way, ",", "\n"
    if way == "cell":
        row, column = rng.randrange(min(1, len(rows) - 1), len(rows)), rng.randrange(len(rows[0]))
        rows[row][column] = rng.choice(_CELLS)
        change = f"row {row}, column {column}: {rows[row][column][:60]!r}"
    elif way == "header":
        column = rng.randrange(len(rows[0]))
        rows[0][column] = rng.choice(
            [*_CELLS, rows[0][0], rows[0][-1], rows[0][column].upper(), f" {rows[0][column]} "]
        )
        change = f"header {rows[0][column][:60]!r}"
    elif way == "shape":
        change = rng.choice(
            ["row longer", "row shorter", "no rows", "nothing", "no header", "empty lines", "row twice"]
        )
        _reshape(rng, rows, change)
    elif way == "separator":
        separator, end = rng.choice(
            [(";", "\n"), ("\t", "\n"), ("|", "\n"), (", ", "\n"), (",", "\r"), (",", "\n\r"), (" ", "\n")]
        )
        change = f"{separator!r} and {end!r}"
    contents = {path: _text(lines).encode() for path, lines in files.items()}
    contents[chosen] = _text(rows, separator, end).encode()
    make = None
    if way == "encoding":
        change = rng.choice(_ENCODINGS)
        contents[chosen] = (_text(rows) + "1.2.1,ä\n").encode(change)
    elif way == "bytes":
        contents[chosen], change = damaged(rng, contents[chosen])
    elif way == "size":
        change = rng.choice(["a million columns", "a long line", "a long cell", "many rows"])
        contents[chosen] = _large(contents[chosen], change)
    elif way == "kind":
        del contents[chosen]
        change = rng.choice(["fifo", "folder", "dangling", "loop", "gone", "device"])
        make = _maker(chosen, change)
    elif way == "packed" and has_packed:
        change = rng.choice(["bomb", "damaged", "two members", "not packed"])
        contents[f"{chosen}.gz"] = _packed(rng, contents.pop(chosen), change)
    return Malformed(name, uid_of(name), contents, make=make, change=f"{chosen}: {change}")


def _text(rows: list[list[str]], separator: str = ",", end: str = "\n") -> str:
    return "".join(separator.join(row) + end for row in rows)


def _reshape(rng: random.Random, rows: list[list[str]], change: str) -> None:
    place = rng.randrange(len(rows))
    if change == "row longer":
        rows[place].append("1")
    elif change == "row shorter":
        rows[place].pop()
    elif change == "no rows":
        del rows[1:]
    elif change == "nothing":
        rows.clear()
    elif change == "no header":
        del rows[0]
    elif change == "row twice":
        rows.append(list(rows[place]))
    else:
        rows.insert(place, [""])


def _large(content: bytes, change: str) -> bytes:
    if change == "a million columns":
        return content.replace(b"\n", b"," * 1_000_000 + b"\n", 1)
    if change == "a long line":
        return content + b"x" * 5_000_000 + b"\n"
    if change == "a long cell":
        return content + b'"' + b"1" * 2_000_000 + b'",1,1,1,1\n'
    return content + content.splitlines(keepends=True)[-1] * 20_000


def _maker(chosen: str, change: str):
    def make(folder: Path) -> None:
        path = folder / chosen
        if change == "fifo":
            os.mkfifo(path)
        elif change == "folder":
            path.mkdir()
        elif change != "gone":
            path.symlink_to({"dangling": "gone", "loop": chosen, "device": "/dev/zero"}[change])

    return make


def _packed(rng: random.Random, content: bytes, change: str) -> bytes:
    if change == "bomb":
        return gzip.compress(content + b"\n" * _BOMB_BYTES, 1, mtime=0)
    if change == "damaged":
        return damaged(rng, gzip.compress(content, mtime=0))[0]
    if change == "two members":
        return gzip.compress(content[:40], mtime=0) + gzip.compress(content[40:], mtime=0)
    return content
