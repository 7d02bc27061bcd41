"""The four input tables of LUNA16's evaluation: nodules, excluded findings, scans, and the marks of a system."""

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.clean_csv import unpacked
from luna_pipeline.core.candidates.csv_tables import SPELLINGS, parse_numbers, read_table

SCANS_HEADER = SPELLINGS["series_instance_uid"]
_POINT = {"x": "x_mm", "y": "y_mm", "z": "z_mm"}


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
        ValueError: If a table lacks a column, or a value of a listed scan is not a number.
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
        scans: Scans whose values must be numbers, None for all; invalid values of other scans become nan.

    Raises:
        FileNotFoundError: If the table does not exist.
        ValueError: If it lacks a column, or a value is not a number.
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
    """
    content = unpacked(_existing_file(path)) if path.suffix == ".gz" else _existing_file(path).read_bytes()
    # Only uids count, and they are ASCII: undecodable bytes in other columns do no harm.
    text = content.decode("utf-8-sig", errors="replace")
    scans = [row[0].strip() for row in csv.reader(io.StringIO(text)) if row and row[0].strip()]
    return scans[1:] if is_corrected and scans and scans[0] in SCANS_HEADER else scans


def check_marks(tables: FrocTables) -> list[str]:
    """Validate the marks and return warnings about ignored or suspicious rows, one line each.

    Raises:
        ValueError: If there is no mark in a listed scan, or its score is not finite.
    """
    is_listed = tables.marks["series_instance_uid"].isin(set(tables.scans))
    marks = tables.marks[is_listed]
    if marks.empty:
        msg = f"Predictions must hold marks of the listed scans, got none ({len(tables.marks)} marks"
        raise ValueError(f"{msg}, {len(set(tables.scans))} scans). Give a submission and a list of the same series.")
    is_odd = ~np.isfinite(marks["probability"])
    if is_odd.any():
        first = marks[is_odd].iloc[0]
        msg = f"Probability must be a finite number, got {first['probability']} (series {first['series_instance_uid']}"
        raise ValueError(f"{msg}, {int(is_odd.sum())} such marks). Score these marks again, or leave them out.")
    numbers = {
        "marks are of series that are not listed, and ignored": int((~is_listed).sum()),
        "probabilities lie outside [0, 1], taken as they are": int((~marks["probability"].between(0, 1)).sum()),
        "scans are listed again, and counted again where official": len(tables.scans) - len(set(tables.scans)),
        "header in the list of scans counts as a scan": sum(scan in SCANS_HEADER for scan in tables.scans),
    }
    return [f"{number} {text}." for text, number in numbers.items() if number]


def _read(path: Path, value: str, scans: Collection[str] | None) -> pd.DataFrame:
    table = read_table(_existing_file(path), ("series_instance_uid", *_POINT, value))
    uids = table["series_instance_uid"]
    is_used = np.ones(len(table), dtype=np.bool_) if scans is None else uids.isin(set(scans)).to_numpy()
    numbers = {name: _numbers(table, column, path, is_used) for column, name in {**_POINT, value: value}.items()}
    return pd.DataFrame({"series_instance_uid": uids, **numbers})


def _numbers(table: pd.DataFrame, column: str, path: Path, is_used: NDArray[np.bool_]) -> "pd.Series[float]":
    values, is_number = parse_numbers(table[column])
    is_wrong = ~is_number & is_used
    if is_wrong.any():
        row = table[is_wrong].iloc[0]
        msg = f"{SPELLINGS[column][0]} must be a number, got {row[column]!r} ({path.name} line {row['line']})."
        raise ValueError(f"{msg} Correct or remove that line.")
    return pd.Series(values, index=table.index)


def _existing_file(path: Path) -> Path:
    # Not is_file(): a pipe is accepted.
    if not path.exists() or path.is_dir():
        msg = f"The table must be there, got no file {path.name} (in {path.parent}). Check the path."
        raise FileNotFoundError(msg)
    return path
