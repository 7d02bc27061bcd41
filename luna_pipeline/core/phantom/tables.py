"""LUNA16's tables for a phantom: the same columns, number formats and line ends."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from luna_pipeline.core.candidates.malignancy_policies import is_malignant_by_readers
from luna_pipeline.core.phantom.findings import Findings
from luna_pipeline.core.phantom.shapes import Point

ANNOTATION_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
CANDIDATE_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "class")
MALIGNANCY_COLUMNS = (
    *("seriesuid", "coord_x", "coord_y", "coord_z", "diameter_mm", "is_malignant", "malignant_details"),
    *("bboxLowX", "bboxLowY", "bboxLowZ", "bboxHighX", "bboxHighY", "bboxHighZ", "len_mal_details"),
)
# LUNA16's own tables have DOS line ends, the original project's malignancy table does not.
DOS, UNIX = "\r\n", "\n"
# The original project's table lacks a few of LUNA16's nodules, as does the phantom's.
UNRATED_EVERY = 97


def tables_of(findings_of_series: Mapping[str, Findings]) -> dict[str, bytes]:
    """Return each table's content by its file name, series in the order of their UIDs."""
    annotations, candidates, excluded, rated = [], [], [], []
    for uid, findings in sorted(findings_of_series.items(), key=lambda item: item[0]):
        annotations += [_row(uid, nodule.center_xyz, nodule.diameter_mm) for nodule in findings.nodules]
        candidates += [_row(uid, spot.center_xyz, int(spot.is_nodule)) for spot in findings.candidates]
        excluded += [_row(uid, spot.center_xyz, spot.diameter_mm) for spot in findings.excluded]
        rated += _malignancy_rows(uid, findings)
    rated = [row for number, row in enumerate(rated, start=1) if number % UNRATED_EVERY]
    return {
        "annotations.csv": csv_bytes(ANNOTATION_COLUMNS, annotations, DOS),
        "candidates_V2.csv": csv_bytes(CANDIDATE_COLUMNS, candidates, DOS),
        "annotations_excluded.csv": csv_bytes(ANNOTATION_COLUMNS, excluded, DOS),
        "annotations_with_malignancy.csv": csv_bytes(MALIGNANCY_COLUMNS, rated, UNIX),
        "seriesuids.csv": "".join(uid + DOS for uid in sorted(findings_of_series)).encode(),
    }


def _malignancy_rows(uid: str, findings: Findings) -> list[list[str]]:
    rows = []
    for nodule, ratings in zip(findings.nodules, findings.ratings, strict=True):
        center, reach = np.asarray(nodule.center_xyz), np.asarray(nodule.reach_xyz)
        box = [repr(round(float(value), 6)) for value in (*(center - reach), *(center + reach))]
        row = _row(uid, nodule.center_xyz, nodule.diameter_mm)
        rows.append([*row, str(is_malignant_by_readers(ratings)), str(list(ratings)), *box, str(len(ratings))])
    return rows


def _row(uid: str, center_xyz: Point, value: float) -> list[str]:
    """LUNA16 writes ten significant digits and no trailing zeros."""
    return [uid, *(f"{number:.10g}" for number in (*center_xyz, value))]


def csv_bytes(columns: Sequence[str], rows: Sequence[Sequence[object]], line_end: str) -> bytes:
    """Return a table as CSV in UTF-8, with quotes where a value needs them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
