"""LUNA16's answer key, rebuilt from LIDC-IDRI's readers without images.

Each mark of a reader gives one position: that of the nodule once the mark is added to it. The last position of a nodule
by three or more readers is a row of ``annotations.csv``; all others are rows of ``annotations_excluded.csv``.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.sources.lidc_database import (
    LidcScan,
    read_lidc_database,
    read_lidc_scans,
    read_mark_names,
)
from luna_pipeline.core.sources.mark_sizes import mark_places
from luna_pipeline.core.sources.reader_groups import GROUP_RULES, NoduleGroup, SeriesMarks
from luna_pipeline.core.sources.reader_marks import ReaderMark
from luna_pipeline.core.sources.reading_sessions import reading_sessions

MIN_READERS = 3
PUBLISHED_COUNTS = (2290, 1602, 1186, 777)
"""Nodules by at least 1, 2, 3, 4 readers in LUNA16's 888 series (Setio et al. 2017)."""
KEY_COLUMNS = {
    "series_instance_uid": "object",
    "nodule": "int64",
    "num_marks": "int64",
    "is_last": "bool",
    "column_mm": "float64",
    "row_mm": "float64",
    "z_mm": "float64",
    "diameter_mm": "float64",
    "ratings": "object",
    "marks": "object",
}


def rebuild_key(database: Path, series: Sequence[str], *, rule: str = "luna16") -> pd.DataFrame:
    """Return the positions that the marks of series make, by a rule of ``GROUP_RULES``.

    Args:
        database: The file of ``luna import_lidc_annotations``.
        series: Series to rebuild.
        rule: Name of the rule.

    Returns:
        ``KEY_COLUMNS``, sorted by series and nodule: number of marks so far, whether it is the nodule's last position,
        column and row in mm from the centre of the first voxel, z in the scanner's mm; for last positions the
        malignancy ratings and the ids of the marks.

    Raises:
        FileNotFoundError: If there is no database.
        ValueError: If it is damaged, or does not have all series.
    """
    scans = {scan.series_instance_uid: scan for scan in read_lidc_scans(database, series)}
    if missing := sorted(set(series) - set(scans)):
        rule_text = f"LIDC-IDRI's database must have all series, got {len(missing)} that it lacks"
        raise ValueError(f"{rule_text} ({missing[0]}). Name LUNA16's seriesuids.csv.")
    marks = read_lidc_database(database, scans)
    names = read_mark_names(database)
    places = mark_places(marks, scans)
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, mark in enumerate(marks):
        numbers[mark.series_instance_uid].append(number)
    rows: list[tuple[object, ...]] = []
    for uid, own in numbers.items():
        chosen = [marks[number] for number in own]
        center_mm, diameter_mm = places.center_mm[own], places.diameter_mm[own]
        sessions = reading_sessions(chosen, [names[mark.mark_id] for mark in chosen], center_mm, diameter_mm)
        of_series = _series_marks(scans[uid], chosen, center_mm, diameter_mm, sessions)
        for number, group in enumerate(GROUP_RULES.get(rule)(of_series)):
            rows += _rows(uid, number, group, chosen)
    return pd.DataFrame(rows, columns=list(KEY_COLUMNS)).astype(KEY_COLUMNS)


def counts_by_readers(key: pd.DataFrame) -> tuple[int, ...]:
    """Return the number of nodules by at least 1, 2, 3 and 4 readers."""
    num_marks = key.loc[key["is_last"], "num_marks"]
    return tuple(int((num_marks >= least).sum()) for least in range(1, 5))


def _series_marks(
    scan: LidcScan,
    marks: Sequence[ReaderMark],
    center_mm: NDArray[np.float64],
    diameter_mm: NDArray[np.float64],
    sessions: Sequence[int],
) -> SeriesMarks:
    return SeriesMarks(center_mm, diameter_mm, sessions, marks, scan.z_mm, scan.slice_thickness_mm)


def _rows(uid: str, number: int, group: NoduleGroup, marks: Sequence[ReaderMark]) -> list[tuple[object, ...]]:
    """Return a row for each position of a nodule."""
    states = [*group.earlier, (group.center_mm, group.diameter_mm)]
    ratings = [marks[mark].ratings["malignancy"] for mark in group.marks]
    ids = [marks[mark].mark_id for mark in group.marks]
    last = len(states) - 1
    return [
        (uid, number, len(group.marks) - last + place, place == last, *center_mm, diameter_mm)
        + ((ratings, ids) if place == last else ([], []))
        for place, (center_mm, diameter_mm) in enumerate(states)
    ]
