"""The rebuilt answer key of LUNA16 compared with its published tables: counts, positions, diameters, differences."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.csv_tables import parse_numbers
from luna_pipeline.core.sources.luna16_frames import FROM_ROWS, FROM_SCAN, UNKNOWN, SeriesFrame, world_xy
from luna_pipeline.core.sources.luna16_key import MIN_READERS, PUBLISHED_COUNTS, counts_by_readers

POSITION_MM, DIAMETER_MM = 1.0, 0.5
_EQUAL_MM = 0.001
# A nodule of the key beyond this is another nodule.
_SAME_NODULE_MM = 10.0
CHECK_COLUMNS = (
    *("series_instance_uid", "x_mm", "y_mm", "z_mm", "diameter_mm"),
    *("rebuilt_x_mm", "rebuilt_y_mm", "rebuilt_z_mm", "rebuilt_diameter_mm", "num_marks"),
    *("position_difference_mm", "z_difference_mm", "diameter_difference_mm", "origin", "num_rows_of_origin"),
    *("is_within", "reason", "ratings"),
)
MISSING_MARK = "the database lacks a mark that LUNA16 had"
OTHER_VOXELS = "LUNA16 counted other voxels within an outline of a reader"


@dataclass(frozen=True, eq=False)
class KeyCheck:
    """The comparison.

    Attributes:
        rows: A row per row of ``annotations.csv`` and per nodule that it lacks: ``CHECK_COLUMNS``.
        counts: Nodules by at least 1, 2, 3, 4 readers.
        missing_marks: By series: rows of LUNA16's tables with a diameter less marks of the database, where not 0.
        num_rows_equal: Rows of both tables whose diameter equals a rebuilt one to 0.001 mm, and all rows with one.
    """

    rows: pd.DataFrame
    counts: tuple[int, ...]
    missing_marks: Mapping[str, int]
    num_rows_equal: tuple[int, int]

    @property
    def num_within(self) -> int:
        """Rows of ``annotations.csv`` within 1 mm of position and 0.5 mm of diameter."""
        return int(self.rows["is_within"].sum())

    @property
    def num_published(self) -> int:
        """Rows of ``annotations.csv``."""
        return int(self.rows["diameter_mm"].notna().sum())

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers and the differences for a program."""
        different = self.rows[self.rows["reason"] != ""]
        return {
            "num_nodules_by_readers": dict(zip("1234", self.counts, strict=True)),
            "num_within": self.num_within,
            "num_published": self.num_published,
            "num_diameters_equal": self.num_rows_equal[0],
            "num_diameters": self.num_rows_equal[1],
            "missing_marks": dict(self.missing_marks),
            "differences": different[["series_instance_uid", "reason"]].to_dict("records"),
        }


def as_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in LUNA16's form with positions and diameters as numbers.

    Raises:
        ValueError: If a value is no number.
    """
    columns: dict[str, pd.Series] = {"series_instance_uid": table["series_instance_uid"].astype(str)}
    for name in ("x_mm", "y_mm", "z_mm", "diameter_mm"):
        values, is_number = parse_numbers(table[name])
        if not is_number.all():
            place = int(np.flatnonzero(~is_number)[0])
            msg = f"{name} must be a number, got {table[name].iloc[place]!r} (row {place + 1} of the table)."
            raise ValueError(f"{msg} Copy LUNA16's table again.")
        columns[name] = pd.Series(values, index=table.index)
    return pd.DataFrame(columns)


def check_key(
    key: pd.DataFrame, annotations: pd.DataFrame, excluded: pd.DataFrame, frames: Mapping[str, SeriesFrame]
) -> KeyCheck:
    """Compare a rebuilt key with LUNA16's tables.

    Args:
        key: As from ``rebuild_key``.
        annotations: ``annotations.csv`` as from ``as_numbers``.
        excluded: ``annotations_excluded.csv`` as from ``as_numbers``.
        frames: Frames by series.
    """
    excluded = excluded[excluded["diameter_mm"] > 0]
    published = pd.concat([annotations, excluded], ignore_index=True)
    num_rows = published["series_instance_uid"].value_counts()
    missing = num_rows.sub(key["series_instance_uid"].value_counts(), fill_value=0)
    missing_marks = {str(uid): int(number) for uid, number in missing[missing != 0].items()}
    nodules = key[key["is_last"] & (key["num_marks"] >= MIN_READERS)].reset_index(drop=True)
    nodules[["x_mm", "y_mm"]] = world_xy(nodules, frames)
    of_series = {str(uid): rows for uid, rows in nodules.groupby("series_instance_uid")}
    rows: list[tuple[object, ...]] = []
    for uid in sorted(set(annotations["series_instance_uid"]) | set(of_series)):
        theirs = annotations[annotations["series_instance_uid"] == uid]
        ours = of_series.get(uid, nodules.iloc[:0])
        rows += _rows(uid, theirs, ours, frames.get(uid), missing_marks.get(uid, 0))
    return KeyCheck(
        pd.DataFrame(rows, columns=list(CHECK_COLUMNS)),
        counts_by_readers(key),
        missing_marks,
        _equal_rows(key, published),
    )


def summary_of(check: KeyCheck) -> Iterator[str]:
    """Yield the comparison in words."""
    yield f"Nodules by at least 1 / 2 / 3 / 4 readers: {_joined(check.counts)} (published {_joined(PUBLISHED_COUNTS)})."
    for uid, number in sorted(check.missing_marks.items()):
        tables, database = ("more", "lacks a") if number > 0 else ("fewer", "has one more")
        yield (
            f"LUNA16's tables have {abs(number)} position {tables}, the database {database} mark: a nodule of the "
            f"series has another number of readers there (series {uid})."
        )
    share = check.num_within / max(1, check.num_published)
    yield (
        f"{check.num_within} of {check.num_published} rows of annotations.csv ({share:.2%}) are within "
        f"{POSITION_MM:g} mm of position and {DIAMETER_MM:g} mm of diameter."
    )
    equal, num_rows = check.num_rows_equal
    yield f"Diameters equal to {_EQUAL_MM:g} mm: {equal} of {num_rows} rows of both tables that have a diameter."
    rows = check.rows[check.rows["diameter_mm"].notna()]
    origins = Counter(rows["origin"])
    yield (
        f"Origins of x and y: from the scan {origins[FROM_SCAN]} rows; estimated from excluded findings of the "
        f"series, two numbers and a sign each, {origins[FROM_ROWS]} rows in "
        f"{rows.loc[rows['origin'] == FROM_ROWS, 'series_instance_uid'].nunique()} series; unknown {origins[UNKNOWN]} "
        "rows. Positions z and diameters need no scan."
    )
    for row in check.rows[check.rows["reason"] != ""].itertuples():
        yield (
            f"Difference: {row.reason} (series {row.series_instance_uid}, "
            f"position {row.position_difference_mm:.3f} mm, diameter {row.diameter_difference_mm:.3f} mm, "
            f"{row.num_marks} marks)."
        )


def _rows(
    uid: str, theirs: pd.DataFrame, ours: pd.DataFrame, frame: SeriesFrame | None, num_missing: int
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of one series: each of the tables with its nearest nodule, then nodules that are left."""
    kind, num_rows = (frame.kind, frame.num_rows) if frame else (UNKNOWN, 0)
    left = list(range(len(ours)))
    places = ours[["x_mm", "y_mm", "z_mm", "diameter_mm"]].to_numpy(dtype=np.float64)
    for row in theirs[["x_mm", "y_mm", "z_mm", "diameter_mm"]].to_numpy(dtype=np.float64):
        away = np.abs(places - row)
        # Without an origin, z and diameter decide.
        order = sorted(left, key=lambda number: float(np.nansum(away[number])))
        if not order or np.nanmax(away[order[0]]) > _SAME_NODULE_MM:
            yield (uid, *row, *[np.nan] * 4, 0, *[np.nan] * 3, kind, num_rows, False, "no nodule of three readers", "")
            continue
        nearest = order[0]
        left.remove(nearest)
        position, z, diameter = float(np.linalg.norm(away[nearest, :3])), away[nearest, 2], away[nearest, 3]
        is_within = bool(position <= POSITION_MM and diameter <= DIAMETER_MM)
        reason = _reason(position, diameter, num_missing)
        found = (int(ours["num_marks"].iloc[nearest]), position, z, diameter, kind, num_rows, is_within, reason)
        yield (uid, *row, *places[nearest], *found, _text(ours["ratings"].iloc[nearest]))
    for number in left:
        num_marks, nothing = int(ours["num_marks"].iloc[number]), [np.nan] * 3
        yield (
            uid,
            *[np.nan] * 4,
            *places[number],
            num_marks,
            *nothing,
            kind,
            num_rows,
            False,
            "not in annotations.csv",
            _text(ours["ratings"].iloc[number]),
        )


def _text(ratings: Sequence[int]) -> str:
    return " ".join(str(rating) for rating in ratings)


def _reason(position_mm: float, diameter_mm: float, num_missing: int) -> str:
    """Return why a row differs by more than 0.02 mm; empty where it does not."""
    if np.isnan(position_mm):
        return "the position of the first voxel is not known"
    if max(position_mm, diameter_mm) <= 0.02:
        return ""
    return MISSING_MARK if num_missing > 0 else OTHER_VOXELS


def _equal_rows(key: pd.DataFrame, published: pd.DataFrame) -> tuple[int, int]:
    diameters = {str(uid): np.sort(rows.to_numpy()) for uid, rows in key.groupby("series_instance_uid")["diameter_mm"]}
    equal = 0
    for uid, rows in published.groupby("series_instance_uid")["diameter_mm"]:
        ours = diameters.get(str(uid), np.zeros(0))
        equal += sum(bool((np.abs(ours - diameter) <= _EQUAL_MM).any()) for diameter in rows)
    return equal, len(published)


def _joined(numbers: tuple[int, ...]) -> str:
    return " / ".join(f"{number:,}" for number in numbers)
