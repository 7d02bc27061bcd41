"""LUNA16's tables as one candidate table.

Candidates are what detectors proposed, with the class that the file gives them; annotations are the reference nodules.
Both become rows, told apart by ``source``: scores are computed on candidates alone, since an annotation sits in the
middle of its nodule and a detection does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.candidate_ids import candidate_ids
from luna_pipeline.core.candidates.csv_tables import (
    ANNOTATION_FILES,
    CANDIDATE_FILES,
    MALIGNANCY_FILES,
    find_table,
    read_table,
)
from luna_pipeline.core.candidates.malignancy import label_malignancy
from luna_pipeline.core.candidates.matching import nearest_within_radius
from luna_pipeline.core.candidates.usable_rows import REJECTED_COLUMNS, SeriesGrids, UsableRows, sort_out

__all__ = ["CANDIDATE_COLUMNS", "REJECTED_COLUMNS", "CandidateTables", "build_candidates", "read_table"]

CANDIDATE_COLUMNS = {
    "candidate_id": "int64",
    "series_instance_uid": "object",
    "x_mm": "float64",
    "y_mm": "float64",
    "z_mm": "float64",
    "class": "int8",
    "diameter_mm": "float64",
    "malignancy": "float64",
    "is_malignant": "boolean",
    "source": "object",
}
_POINT = ["x_mm", "y_mm", "z_mm"]
_ROW = ("series_instance_uid", "x", "y", "z")


@dataclass(frozen=True)
class CandidateTables:
    """What the tables of a data root give.

    Attributes:
        candidates: ``CANDIDATE_COLUMNS``; diameter (mm) and malignancy (mean rating) of the annotation that a
            candidate lies in, NaN where it lies in none. Sorted by series and id.
        rejected: Rows that cannot be used, as written, with file, line and reason.
        counts: ``rows_candidates``, ``rows_annotations``, ``rows_malignancy`` (in the files); ``kept``,
            ``kept_candidates``, ``kept_annotations``, ``rejected``; ``rows_without_ct`` (candidates and annotations of
            series that are not there); ``annotations_rated``; ``class_1_outside_annotations`` and
            ``class_0_inside_annotations`` (0 without an annotations file).
    """

    candidates: pd.DataFrame
    rejected: pd.DataFrame
    counts: dict[str, int]


def build_candidates(data_root: Path, catalogue: pd.DataFrame) -> CandidateTables:
    """Join LUNA16's tables in world millimetres.

    Args:
        data_root: Folder with ``candidates_V2.csv`` (or ``candidates.csv``) or ``annotations.csv`` or both, and
            ``annotations_with_malignancy.csv`` where there are ratings.
        catalogue: The series there are, as from ``catalogue_series``.

    Raises:
        FileNotFoundError: If there are neither candidates nor annotations.
        ValueError: If a table lacks a column.
    """
    candidates_path = find_table(data_root, CANDIDATE_FILES)
    annotations_path = find_table(data_root, ANNOTATION_FILES)
    if candidates_path is None and annotations_path is None:
        names = " or ".join((*CANDIDATE_FILES, *ANNOTATION_FILES))
        msg = f"The data folder must hold {names}, got neither (in {data_root}). Copy LUNA16's tables there."
        raise FileNotFoundError(msg)
    series = SeriesGrids.of_catalogue(catalogue)
    ratings = _read(find_table(data_root, MALIGNANCY_FILES), "diameter_mm", series, ("is_malignant", "ratings"))
    annotations = _read(annotations_path, "diameter_mm", series)
    candidates = _read(candidates_path, "class", series)
    nodules = _rated_nodules(annotations.kept, ratings.kept)
    rows = pd.concat(
        [_located(candidates.kept, nodules), nodules.assign(source="annotation", **{"class": 1})], ignore_index=True
    )
    rejected = pd.concat([part.rejected for part in (candidates, annotations, ratings)], ignore_index=True)
    return CandidateTables(
        candidates=_finish(rows),
        rejected=rejected.astype({"line": "int64"}),
        counts={
            "rows_candidates": candidates.num_rows,
            "rows_annotations": annotations.num_rows,
            "rows_malignancy": ratings.num_rows,
            "kept": len(rows),
            "kept_candidates": len(candidates.kept),
            "kept_annotations": len(annotations.kept),
            "rejected": len(rejected),
            "rows_without_ct": candidates.num_without_ct + annotations.num_without_ct,
            "annotations_rated": int(nodules["is_malignant"].notna().sum()),
            **(_disagreements(rows) if annotations_path else _disagreements(rows.iloc[:0])),
        },
    )


def _read(path: Path | None, value: str, series: SeriesGrids, optional: Sequence[str] = ()) -> UsableRows:
    """Read a table and sort it out; one that is not there has no rows."""
    if path is None:
        empty = pd.DataFrame(columns=[*_ROW, value, "line"], dtype=object)
        return sort_out(empty, file="", value=value, series=series)
    table = read_table(path, (*_ROW, value), optional=optional)
    return sort_out(table, file=path.name, value=value, series=series)


def _rated_nodules(annotations: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Add diameter, mean rating and label to annotations; the ratings' centres are not written to the last digit."""
    labels = label_malignancy(ratings)
    places = _match(annotations, ratings, radii_mm=ratings["number"].to_numpy() / 2)
    matched = labels.reindex(places).reset_index(drop=True)
    return annotations.assign(
        diameter_mm=annotations["number"],
        malignancy=matched["malignancy"].astype("float64"),
        is_malignant=matched["is_malignant"].astype("boolean"),
    )


def _located(candidates: pd.DataFrame, nodules: pd.DataFrame) -> pd.DataFrame:
    """Give each candidate diameter and malignancy of the annotation that it lies in."""
    places = _match(candidates, nodules, radii_mm=nodules["diameter_mm"].to_numpy() / 2)
    columns = ["diameter_mm", "malignancy", "is_malignant"]
    matched = nodules[columns].reindex(places).reset_index(drop=True)
    return candidates.assign(**{column: matched[column] for column in columns}, source="candidate").assign(
        **{"class": candidates["number"]}
    )


def _match(points: pd.DataFrame, spheres: pd.DataFrame, *, radii_mm: np.ndarray) -> np.ndarray:
    """Return for each point the row of the sphere of its series that it lies in, -1 where none."""
    nearest = np.full(len(points), -1, dtype=np.int64)
    points_xyz, centers_xyz = points[_POINT].to_numpy(), spheres[_POINT].to_numpy()
    rows_of_points = points.groupby("series_instance_uid").indices
    for uid, rows_of_spheres in spheres.groupby("series_instance_uid").indices.items():
        rows = rows_of_points.get(uid, np.empty(0, dtype=np.int64))
        places = nearest_within_radius(points_xyz[rows], centers_xyz[rows_of_spheres], radii_mm[rows_of_spheres])
        nearest[rows] = np.where(places >= 0, rows_of_spheres[places], -1)
    return nearest


def _disagreements(rows: pd.DataFrame) -> dict[str, int]:
    """Count candidates whose class in the file is not what their place says."""
    # Annotations themselves are of class 1 and inside: they agree.
    is_inside = rows["diameter_mm"].notna()
    return {
        "class_1_outside_annotations": int(((rows["class"] == 1) & ~is_inside).sum()),
        "class_0_inside_annotations": int(((rows["class"] == 0) & is_inside).sum()),
    }


def _finish(rows: pd.DataFrame) -> pd.DataFrame:
    """Name the rows, order them and fix the types."""
    # Among equal rows the one with the lower class or diameter comes first, whatever their order in the file.
    rows = rows.sort_values("number", kind="stable")
    columns = [rows[column].tolist() for column in ("series_instance_uid", "source", "x", "y", "z")]
    rows["candidate_id"] = candidate_ids(zip(*columns, strict=True))
    # Codes of the sorted uids: sorting 750,000 long texts takes seconds.
    codes, _ = pd.factorize(rows["series_instance_uid"], sort=True)
    order = np.lexsort((rows["candidate_id"].to_numpy(), codes))
    return rows.iloc[order][list(CANDIDATE_COLUMNS)].astype(CANDIDATE_COLUMNS).reset_index(drop=True)
