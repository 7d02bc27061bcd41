"""The four input tables of LUNA16's evaluation: nodules, excluded findings, scans, and the marks of a system."""

import csv
import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.csv_columns import SEPARATORS, SPELLINGS, shown_value
from luna_pipeline.core.candidates.csv_content import (
    header_line,
    line_ends,
    line_with_open_quote,
    open_quote_error,
    read_content,
)
from luna_pipeline.core.candidates.csv_tables import NUL_SIGN, parse_numbers, read_table
from luna_pipeline.core.candidates.uid_differences import describe_difference, shown_uid

SCANS_HEADER = SPELLINGS["series_instance_uid"]
_POINT = {"x": "x_mm", "y": "y_mm", "z": "z_mm"}
# Squares of far larger numbers are infinite, and each mark would lie within such a diameter.
_MAX_MM = 1e5


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrocTables:
    """Marks of a system and the reference.

    Attributes:
        marks: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``, ``probability``.
        nodules: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``, ``diameter_mm``, in file order.
        excluded: Excluded findings: neither a hit nor a false positive. Columns as in ``nodules``.
        scans: Series instance uids in list order.
    """

    marks: pd.DataFrame
    nodules: pd.DataFrame
    excluded: pd.DataFrame
    scans: list[str]


def read_froc_tables(
    *, annotations: Path, excluded: Path | None, series: Path, predictions: Path, is_corrected: bool = False
) -> FrocTables:
    """Read the tables, each ``.csv`` or ``.csv.gz``.

    Args:
        annotations: LUNA16's ``annotations.csv``.
        excluded: LUNA16's ``annotations_excluded.csv``; None for no excluded findings.
        series: LUNA16's ``seriesuids.csv``: no header, one scan per row.
        predictions: A submission.
        is_corrected: Whether to skip a header in the list of scans; officially it counts as a scan.

    Raises:
        FileNotFoundError: If a table does not exist.
        ValueError: If a table cannot be read or lacks a column, or a value of a listed scan is not a finite number.
    """
    scans = read_scans(series, is_corrected=is_corrected)
    return FrocTables(
        marks=_read(predictions, "probability", scans),
        nodules=read_findings(annotations, scans),
        excluded=read_findings(excluded, scans),
        scans=scans,
    )


def read_findings(path: Path | None, scans: Collection[str] | None = None) -> pd.DataFrame:
    """Read nodules or excluded findings: ``series_instance_uid``, ``x_mm``, ``y_mm``, ``z_mm``, ``diameter_mm``.

    Args:
        path: The table, ``.csv`` or ``.csv.gz``; None for an empty table.
        scans: Scans whose values must be finite numbers, None for all; other values of other scans become nan.

    Raises:
        FileNotFoundError: If the table does not exist.
        ValueError: If it lacks a column, or a value is not a finite number (in mm, below 100,000).
    """
    if path is None:
        numbers = {name: np.empty(0) for name in (*_POINT.values(), "diameter_mm")}
        return pd.DataFrame({"series_instance_uid": pd.Series(dtype=object), **numbers})
    return _read(path, "diameter_mm", scans)


def read_scans(path: Path, *, is_corrected: bool = False) -> list[str]:
    """Return the first value of each row of a list of scans (``.csv`` or ``.csv.gz``); empty rows are skipped.

    Args:
        path: The list.
        is_corrected: Whether a header is skipped as well.

    Raises:
        FileNotFoundError: If the list does not exist.
        ValueError: If it is no text in UTF-8, or its values are separated by other signs than commas.
    """
    content = read_content(_existing_file(path), first_line="a scan in each line")
    header_line(content, path.name)
    # Only uids count, and they are ASCII: undecodable bytes in other columns do no harm.
    text = bytes(content).decode("utf-8-sig", errors="replace").replace("\0", NUL_SIGN)
    scans = []
    try:
        rows = csv.reader(io.StringIO(text, newline=None))
        scans = [row[0].strip() for row in rows if row and row[0].strip()]
        is_open = any("\n" in scan or "\r" in scan for scan in scans)
    except csv.Error:
        is_open = True
    if is_open:
        raise open_quote_error(path.name, line_with_open_quote(content, line_ends(content, path.name)))
    _check_separators(scans, path.name)
    return scans[1:] if is_corrected and scans and scans[0] in SCANS_HEADER else scans


def _check_separators(scans: Iterable[str], file: str) -> None:
    for scan in scans:
        for separator, kind in SEPARATORS.items():
            if separator in scan:
                msg = f"Values must be separated by commas, got {kind} ({file}, scan {shown_uid(scan)})."
                raise ValueError(f"{msg} Export the list with commas.")


def check_marks(tables: FrocTables) -> list[str]:
    """Validate the marks and return warnings about ignored or suspicious rows, one line each.

    Raises:
        ValueError: If there is no mark in a listed scan.
    """
    scans = set(tables.scans)
    is_listed = tables.marks["series_instance_uid"].isin(scans)
    marks = tables.marks[is_listed]
    if marks.empty:
        msg = f"Predictions must hold marks of the listed scans, got none ({len(tables.marks)} marks"
        msg += f", {len(scans)} scans).{_difference(tables.marks, scans, is_always_said=True)}"
        raise ValueError(f"{msg} Give a submission and a list of the same series.")
    numbers = {
        "marks are of series that are not listed, and ignored": int((~is_listed).sum()),
        "probabilities lie outside [0, 1], taken as they are": int((~marks["probability"].between(0, 1)).sum()),
        "marks are there twice, and counted twice as officially": int(marks.duplicated().sum()),
        "scans are listed again, and counted again where official": len(tables.scans) - len(scans),
        "header in the list of scans counts as a scan": sum(scan in SCANS_HEADER for scan in tables.scans),
    }
    lines = [f"{number} {text}." for text, number in numbers.items() if number]
    if difference := _difference(tables.marks, scans):
        lines.append(f"Series of the predictions:{difference}")
    return [*lines, *_check_findings(tables, scans)]


def _check_findings(tables: FrocTables, scans: Collection[str]) -> list[str]:
    """Return warnings about nodules and excluded findings."""
    lines = []
    is_listed = tables.nodules["series_instance_uid"].isin(scans)
    if not is_listed.any():
        difference = _difference(tables.nodules, scans, is_always_said=True)
        lines.append(f"No annotation is of a listed scan, of {len(tables.nodules)}: no score is defined.{difference}")
    elif difference := _difference(tables.nodules, scans):
        lines.append(f"Series of the annotations:{difference}")
    if num_twice := int(tables.nodules[is_listed].duplicated().sum()):
        lines.append(f"{num_twice} annotations are there twice, and counted twice as officially.")
    if difference := _difference(tables.excluded, scans):
        lines.append(f"Series of the excluded findings:{difference}")
    return lines


def _difference(table: pd.DataFrame, scans: Collection[str], *, is_always_said: bool = False) -> str:
    """Return how the series of a table differ from listed scans, with a space before; empty where nothing is known."""
    uids = sorted(set(table["series_instance_uid"].unique()) - set(scans))
    difference = describe_difference(uids, scans, of="in the list")
    if difference is None and is_always_said and uids and scans:
        difference = f"{shown_uid(uids[0])} in the table, {shown_uid(min(scans))} in the list."
    return f" {difference}" if difference else ""


def _read(path: Path, value: str, scans: Collection[str] | None) -> pd.DataFrame:
    table = read_table(_existing_file(path), ("series_instance_uid", *_POINT, value))
    uids = table["series_instance_uid"]
    is_used = np.ones(len(table), dtype=np.bool_) if scans is None else uids.isin(set(scans)).to_numpy()
    numbers = {name: _numbers(table, column, path, is_used) for column, name in {**_POINT, value: value}.items()}
    return pd.DataFrame({"series_instance_uid": uids, **numbers})


def _numbers(table: pd.DataFrame, column: str, path: Path, is_used: NDArray[np.bool_]) -> "pd.Series[float]":
    values, is_number = parse_numbers(table[column])
    is_mm = column != "probability"
    is_right = np.abs(values) < _MAX_MM if is_mm else np.isfinite(values)
    is_wrong = ~is_right & is_used
    if is_wrong.any():
        row = table[is_wrong].iloc[0]
        kind = "finite number" if is_number[is_wrong.argmax()] else "number"
        msg = f"{SPELLINGS[column][0]} must be a {kind}{' below 100,000 mm' * (is_mm and kind != 'number')}"
        msg += f", got {shown_value(row[column])} ({path.name} line {row['line']}). Correct or remove that line."
        raise ValueError(msg)
    return pd.Series(values, index=table.index)


def _existing_file(path: Path) -> Path:
    # Not is_file(): a pipe is accepted.
    if not path.exists() or path.is_dir():
        msg = f"The table must be there, got no file {path.name} (in {path.parent}). Check the path."
        raise FileNotFoundError(msg)
    return path
