"""LUNA16's tables as one candidate table.

Candidates are positions proposed by detectors, with the class of the file; annotations are the reference nodules. Both
become rows, distinguished by ``source``: scores are computed on candidates alone, since an annotation is exactly in the
centre of its nodule and a detection is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.candidate_ids import candidate_ids
from luna_pipeline.core.candidates.csv_tables import parse_numbers, read_table
from luna_pipeline.core.candidates.malignancy import (
    count_labels,
    describe_counts,
    label_malignancy,
    parse_ratings,
)
from luna_pipeline.core.candidates.malignancy_policies import DEFAULT_POLICY, MALIGNANCY_POLICIES
from luna_pipeline.core.candidates.matching import POINT_COLUMNS, nearest_in_series
from luna_pipeline.core.candidates.series_codes import order_by_series, series_codes
from luna_pipeline.core.candidates.table_notes import (
    WARNING,
    describe_diameters,
    describe_match,
    describe_negated,
    describe_outside,
    describe_rejected,
    describe_values,
)
from luna_pipeline.core.candidates.table_places import (
    ANNOTATION_FILES,
    CANDIDATE_FILES,
    EXCLUDED_FILES,
    MALIGNANCY_FILES,
    find_misplaced,
    find_table,
)
from luna_pipeline.core.candidates.usable_rows import REJECTED_COLUMNS, SeriesGrids, UsableRows, validate_rows

__all__ = ["CANDIDATE_COLUMNS", "REJECTED_COLUMNS", "CandidateTables", "build_candidates", "read_table"]

CANDIDATE_COLUMNS = {
    "candidate_id": "int64",
    "series_instance_uid": "category",
    **dict.fromkeys(POINT_COLUMNS, "float64"),
    "class": "int8",
    "diameter_mm": "float64",
    "malignancy": "float64",
    "is_malignant": "boolean",
    "source": "category",
}
SOURCES = pd.Index(["annotation", "candidate"])
_ROW = ("series_instance_uid", "x", "y", "z")


@dataclass(frozen=True)
class CandidateTables:
    """The tables of a data root, joined.

    Attributes:
        candidates: ``CANDIDATE_COLUMNS``; diameter (mm) and malignancy (mean rating) of the annotation that a
            candidate lies in, NaN where it lies in none. Sorted by series and id.
        rejected: Rows that cannot be used, as written, with file, line and reason.
        counts: ``rows_candidates``, ``rows_annotations``, ``rows_malignancy`` (in the files); ``kept``,
            ``kept_candidates``, ``kept_annotations``, ``rejected``; ``rows_without_ct`` (candidates and annotations of
            series that are not in the catalogue); ``annotations_rated``; ``class_1_outside_annotations`` and
            ``class_0_inside_annotations`` (0 without an annotations file).
        notes: Lines about rows without a CT, rejected and doubled rows, and tables that were not read; those that
            start with ``Warning: `` need attention.
        policies: A line per malignancy policy: the labels that it makes of the readers' ratings; empty without ratings.
    """

    candidates: pd.DataFrame
    rejected: pd.DataFrame
    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()

    def with_source(self, rejected: pd.DataFrame, notes: Sequence[str]) -> "CandidateTables":
        """Return these tables with the rejected rows and notes of the tables that they were made from."""
        if len(rejected):
            types = {"line": "int64", "file": "category", "reason": "category", "series_instance_uid": "category"}
            parts = [part.astype(object) for part in (self.rejected, rejected[list(REJECTED_COLUMNS)]) if len(part)]
            all_rejected = pd.concat(parts, ignore_index=True).astype(types)
            counts = self.counts | {"rejected": self.counts["rejected"] + len(rejected)}
            return replace(self, rejected=all_rejected, counts=counts, notes=(*notes, *self.notes))
        return replace(self, notes=(*notes, *self.notes))

    def require_rows(self) -> None:
        """Refuse tables of which no row can be used.

        Raises:
            ValueError: If there is neither a candidate nor an annotation of a readable CT.
        """
        if not self.counts["kept"]:
            num_rows = self.counts["rows_candidates"] + self.counts["rows_annotations"]
            rule = f"Tables must hold candidates or annotations of readable CTs, got {num_rows} rows and none of them."
            cause = next((note.removeprefix(WARNING) for note in reversed(self.notes) if note.startswith(WARNING)), "")
            raise ValueError(f"{rule} {cause or 'Copy the tables of these CTs to the data folder.'}")


def build_candidates(
    data_root: Path, catalogue: pd.DataFrame, *, malignancy_policy: str = DEFAULT_POLICY
) -> CandidateTables:
    """Join LUNA16's tables in world millimetres.

    Args:
        data_root: Folder with ``candidates_V2.csv`` (or ``candidates.csv``), ``annotations.csv`` or both, and
            optionally ``annotations_with_malignancy.csv``.
        catalogue: As from ``catalogue_series``.
        malignancy_policy: Name in ``MALIGNANCY_POLICIES``; kept in the table's ``attrs["malignancy_policy"]``, also by
            its Parquet file.

    Raises:
        FileNotFoundError: If there are neither candidates nor annotations.
        ValueError: If a table lacks a column, or the policy is unknown.
    """
    MALIGNANCY_POLICIES.check(malignancy_policy)
    candidates_path = find_table(data_root, CANDIDATE_FILES)
    annotations_path = find_table(data_root, ANNOTATION_FILES)
    misplaced = find_misplaced(data_root)
    if candidates_path is None and annotations_path is None:
        raise _no_table(data_root, misplaced)
    series = SeriesGrids.of_catalogue(catalogue)
    ratings = _read(find_table(data_root, MALIGNANCY_FILES), "diameter_mm", series, ("is_malignant", "ratings"))
    annotations = _read(annotations_path, "diameter_mm", series)
    candidates = _read(candidates_path, "class", series, ("is_malignant",))
    excluded = _read_excluded(find_table(data_root, EXCLUDED_FILES), series)
    nodules, num_nodules_twice = _rated_nodules(annotations.kept, ratings.kept, malignancy_policy)
    detections, num_detections_twice = _located(candidates.kept, nodules)
    rejected = _all_rejected((candidates, annotations, ratings))
    notes = [
        *(f"{WARNING}{line}" for line in misplaced),
        *describe_rejected(rejected),
        *describe_values(candidates, num_detections_twice),
        *describe_values(annotations, num_nodules_twice),
        *describe_diameters(annotations, ratings),
        *(line for part in (candidates, annotations, excluded) for line in describe_outside(part, series.readable)),
        *describe_negated(detections, nodules, file=candidates.file),
        *describe_match((candidates, annotations), series, others=(ratings, excluded)),
    ]
    table = _finish(detections, nodules)
    table.attrs["malignancy_policy"] = malignancy_policy
    return CandidateTables(
        candidates=table,
        rejected=rejected,
        notes=tuple(notes),
        policies=_policies(ratings.kept),
        counts={
            "rows_candidates": candidates.num_rows,
            "rows_annotations": annotations.num_rows,
            "rows_malignancy": ratings.num_rows,
            "kept": len(detections) + len(nodules),
            "kept_candidates": len(candidates.kept),
            "kept_annotations": len(annotations.kept),
            "rejected": sum(len(part.rejected) for part in (candidates, annotations, ratings)),
            "rows_without_ct": candidates.num_without_ct + annotations.num_without_ct,
            "annotations_rated": int(nodules["is_malignant"].notna().sum()),
            **_disagreements(detections if annotations_path else detections.iloc[:0]),
        },
    )


def _read(path: Path | None, value: str, series: SeriesGrids, optional: Sequence[str] = ()) -> UsableRows:
    """Read a table and validate its rows; a missing table has no rows."""
    if path is None:
        no_rows = pd.DataFrame(columns=[*_ROW, value, "line"], dtype=object).astype({"series_instance_uid": "category"})
        return validate_rows(no_rows, file="", value=value, series=series)
    table = read_table(path, (*_ROW, value), optional=optional)
    return validate_rows(table, file=path.name, value=value, series=series)


def _read_excluded(path: Path | None, series: SeriesGrids) -> UsableRows:
    """Read excluded findings, for notes on their series and places; the official evaluation reads the file itself."""
    if path is None:
        return _read(None, "diameter_mm", series)
    table = read_table(path, (*_ROW, "diameter_mm"))
    # -1 is a diameter that is not known: officially 10 mm.
    is_known = parse_numbers(table["diameter_mm"])[0] != -1
    known = table.assign(diameter_mm=table["diameter_mm"].where(is_known, "10"))
    return validate_rows(known, file=path.name, value="diameter_mm", series=series)


def _no_table(data_root: Path, misplaced: Sequence[str]) -> FileNotFoundError:
    names = " or ".join((*CANDIDATE_FILES, *ANNOTATION_FILES))
    msg = f"The data folder must hold {names}, got neither (in {data_root})."
    return FileNotFoundError(" ".join([msg, *misplaced]) if misplaced else f"{msg} Copy LUNA16's tables there.")


def _policies(ratings: pd.DataFrame) -> tuple[str, ...]:
    rated = [parsed for text in ratings.get("ratings", ()) if (parsed := parse_ratings(text))]
    return tuple(describe_counts(count_labels(rated))) if rated else ()


def _rated_nodules(annotations: pd.DataFrame, ratings: pd.DataFrame, policy: str) -> tuple[pd.DataFrame, int]:
    """Add diameter, mean rating and label to annotations, and count repeated rows.

    The ratings' centres are rounded differently.
    """
    labels = label_malignancy(ratings, policy)
    places = _match(annotations, ratings)
    matched = labels.reindex(places).reset_index(drop=True)
    ids, num_repeated = _ids(annotations, source="annotation")
    rated = annotations.assign(
        diameter_mm=annotations["number"],
        malignancy=matched["malignancy"].astype("float64"),
        is_malignant=matched["is_malignant"].astype("boolean"),
        candidate_id=ids,
        source=_repeated("annotation", len(annotations)),
        **{"class": np.int8(1)},
    )
    return rated, num_repeated


def _located(candidates: pd.DataFrame, nodules: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Add diameter and malignancy of the annotation that each candidate lies in, and count repeated rows."""
    columns = ["diameter_mm", "malignancy", "is_malignant"]
    # Shallow: unchanged columns are not copied.
    located = candidates.copy(deep=False)
    located[columns] = nodules[columns].reindex(_match(candidates, nodules)).set_axis(candidates.index)
    if "is_malignant" in candidates:
        # Nodules without a diameter have their own label.
        own = label_malignancy(candidates[["is_malignant"]])["is_malignant"]
        located["is_malignant"] = own.fillna(located["is_malignant"].astype("boolean"))
    located["class"] = candidates["number"].astype("int8")
    located["candidate_id"], num_repeated = _ids(candidates, source="candidate")
    located["source"] = _repeated("candidate", len(candidates))
    return located, num_repeated


def _match(points: pd.DataFrame, nodules: pd.DataFrame) -> NDArray[np.int64]:
    """Return for each point the row of the nodule of its series that contains it, -1 without one."""
    return nearest_in_series(
        points["series_instance_uid"],
        points[POINT_COLUMNS],
        center_series=nodules["series_instance_uid"],
        centers_xyz=nodules[POINT_COLUMNS],
        radii_mm=nodules["number"] / 2,
    )


def _ids(rows: pd.DataFrame, *, source: str) -> tuple[NDArray[np.int64], int]:
    # Equal rows are numbered by class or diameter, not by their order in the file.
    texts = [rows[axis] for axis in ("x", "y", "z")]
    return candidate_ids(rows["series_instance_uid"], texts, source=source, precedence=rows["number"].to_numpy())


def _repeated(source: str, num_rows: int) -> "pd.Categorical[str]":
    return pd.Categorical.from_codes(np.full(num_rows, SOURCES.get_loc(source)), categories=SOURCES)


def _disagreements(detections: pd.DataFrame) -> dict[str, int]:
    """Count candidates whose class in the file contradicts their position."""
    is_inside = detections["diameter_mm"].notna()
    return {
        "class_1_outside_annotations": int(((detections["class"] == 1) & ~is_inside).sum()),
        "class_0_inside_annotations": int(((detections["class"] == 0) & is_inside).sum()),
    }


def _finish(*parts: pd.DataFrame) -> pd.DataFrame:
    """Concatenate the rows and sort them by series and id."""
    rows = pd.concat([part[list(CANDIDATE_COLUMNS)] for part in parts], ignore_index=True)
    codes, uids = series_codes(rows["series_instance_uid"])
    rows["series_instance_uid"] = rows["series_instance_uid"].cat.set_categories(uids)
    rows = rows.take(order_by_series(codes, rows["candidate_id"].to_numpy()))
    rows.index = pd.RangeIndex(len(rows))
    return rows


def _all_rejected(parts: Sequence[UsableRows]) -> pd.DataFrame:
    """Concatenate the rejected rows."""
    rejected = pd.concat([part.rejected for part in parts], ignore_index=True)
    rejected["series_instance_uid"] = rejected["series_instance_uid"].cat.remove_unused_categories()
    return rejected.astype({"line": "int64", "file": "category", "reason": "category"})
