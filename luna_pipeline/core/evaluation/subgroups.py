"""Scores of models by nodule diameter, texture and calcification, slice spacing, slice thickness and scanner."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from luna_pipeline.core.evaluation.reader_words import READER_WORDS
from luna_pipeline.core.evaluation.report import called, check_predictions
from luna_pipeline.core.metrics.binary import area_under_curve, decision_metrics

SUBGROUP_COLUMNS = (
    *("model", "kind", "group", "num_candidates", "num_nodules", "num_series"),
    *("sensitivity", "specificity", "auc"),
)
# Solid nodules at a baseline screening: Lung-RADS v2022 (ACR), categories 2, 3, 4A and 4B.
DIAMETER_EDGES_MM = (6.0, 8.0, 15.0)
DIAMETER_BANDS = ("< 6 mm", "6 to < 8 mm", "8 to < 15 mm", ">= 15 mm")
SLICE_EDGES_MM = (1.25, 2.0, 2.5)
SLICE_BANDS = ("<= 1.25 mm", "> 1.25 to 2 mm", "> 2 to 2.5 mm", "> 2.5 mm")
NON_NODULE, UNKNOWN = "non-nodule", "unknown"


def subgroup_report(predictions: pd.DataFrame, *, nodules: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each model in each subgroup of the candidates.

    Args:
        predictions: One row per candidate and model, see ``check_predictions``.
        nodules: One row per candidate: ``candidate_id`` and ``diameter_mm``, optionally ``texture`` and
            ``calcification`` in words of ``READER_WORDS``.
        series: One row per series: ``series_instance_uid`` and ``spacing_mm`` (x, y, z, or z only), optionally
            ``slice_thickness_mm`` and ``manufacturer``.

    Returns:
        One row per model, kind and non-empty group, with ``SUBGROUP_COLUMNS``. The kind ``diameter`` divides the
        nodules, as ``texture`` and ``calcification`` do where readers rated them: the AUC of a group compares its
        nodules with all non-nodules, which are a group too. ``slice_spacing``
        (distance of neighbouring slices), ``slice_thickness`` (DICOM (0018,0050)) and ``manufacturer`` divide all
        candidates. Sensitivity and specificity are at ``threshold``. Undefined values are nan. Missing values form the
        group ``unknown``; a kind with missing values only is omitted.

    Raises:
        ValueError: If the predictions or one of the tables are invalid.
    """
    check_predictions(predictions)
    groups = _groups(
        predictions[["candidate_id", "series_instance_uid", "class"]],
        _keyed(nodules, "candidate_id", "diameter_mm"),
        _keyed(series, "series_instance_uid", "spacing_mm"),
    )
    known = [kind for kind in groups.columns if not groups[kind].isin([UNKNOWN, NON_NODULE]).all()]
    is_called = pd.Series(called(predictions), index=groups.index)
    rows = []
    table = predictions.reset_index(drop=True).assign(is_called=is_called)
    for model, of_model in table.groupby("model", sort=False, observed=True):
        for kind in known:
            group_of = groups.loc[of_model.index, kind]
            rows += [{"model": str(model), "kind": kind, **row} for row in _rows(of_model, group_of)]
    return pd.DataFrame(rows, columns=list(SUBGROUP_COLUMNS))


def _keyed(table: pd.DataFrame, key: str, column: str) -> pd.DataFrame:
    missing = [name for name in (key, column) if name not in table.columns]
    if missing:
        msg = f"A table of subgroups must have the columns {key} and {column}, got none named {', '.join(missing)}."
        raise ValueError(f"{msg} Hand in the table that has them.")
    if table[key].duplicated().any():
        twice = table.loc[table[key].duplicated(), key].iloc[0]
        msg = f"A table of subgroups must have a row a {key}, got two of {twice}. Leave out the doubles."
        raise ValueError(msg)
    return table.set_index(key)


def _groups(rows: pd.DataFrame, nodules: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Return the group of each row by kind: ordered categories."""
    rows = rows.reset_index(drop=True)
    of_candidate = nodules.reindex(rows["candidate_id"]).reset_index(drop=True)
    of_series = series.reindex(rows["series_instance_uid"]).reset_index(drop=True)
    is_nodule = rows["class"] == 1
    diameter = _bands(of_candidate["diameter_mm"], DIAMETER_EDGES_MM, DIAMETER_BANDS, is_right=False)
    spacing_mm = of_series["spacing_mm"].map(_along_slices)
    thickness_mm = of_series.get("slice_thickness_mm", pd.Series(math.nan, of_series.index))
    return pd.DataFrame(
        {
            "diameter": _of_nodules(diameter, is_nodule),
            **{
                kind: _of_nodules(_ordered(of_candidate, kind, words), is_nodule)
                for kind, words in READER_WORDS.items()
            },
            "slice_spacing": _bands(spacing_mm, SLICE_EDGES_MM, SLICE_BANDS, is_right=True),
            "slice_thickness": _bands(thickness_mm, SLICE_EDGES_MM, SLICE_BANDS, is_right=True),
            "manufacturer": _words(of_series, "manufacturer"),
        }
    )


def _along_slices(spacing_mm: object) -> float:
    """Return the last of three spacings (x, y, z), or the single value; nan if missing."""
    if isinstance(spacing_mm, list | tuple | np.ndarray):
        return float(spacing_mm[2])
    return math.nan if spacing_mm is None else float(spacing_mm)  # type: ignore[arg-type]


def _bands(values: pd.Series, edges: tuple[float, ...], names: tuple[str, ...], *, is_right: bool) -> pd.Series:
    bands = pd.cut(values.astype("float64"), [-math.inf, *edges, math.inf], right=is_right, labels=list(names))
    return bands.cat.add_categories([UNKNOWN]).fillna(UNKNOWN)


def _words(table: pd.DataFrame, column: str) -> pd.Series:
    return _ordered(
        table, column, sorted(set(table[column].dropna().astype(str)) - {UNKNOWN} if column in table else ())
    )


def _ordered(table: pd.DataFrame, column: str, names: Sequence[str]) -> pd.Series:
    """Return a column of words as ordered groups; other words and missing values are unknown."""
    words = table[column].astype("string") if column in table else pd.Series(pd.NA, table.index, dtype="string")
    return words.where(words.isin(names)).fillna(UNKNOWN).astype(pd.CategoricalDtype([*names, UNKNOWN]))


def _of_nodules(groups: pd.Series, is_nodule: pd.Series) -> pd.Series:
    return groups.cat.add_categories([NON_NODULE]).where(is_nodule, NON_NODULE)


def _rows(predictions: pd.DataFrame, groups: pd.Series) -> Iterator[dict[str, str | int | float]]:
    # Nodules grouped by diameter are ranked against all non-nodules.
    is_other = (groups == NON_NODULE).to_numpy()
    for group in groups.cat.categories:
        is_member = (groups == group).to_numpy()
        if not is_member.any():
            continue
        members, ranked = predictions[is_member], predictions[is_member | is_other]
        labels = members["class"].to_numpy(dtype=np.int64)
        decided = decision_metrics(labels, members["is_called"].to_numpy(dtype=bool))
        yield {
            "group": str(group),
            "num_candidates": len(members),
            "num_nodules": int(labels.sum()),
            "num_series": int(members["series_instance_uid"].nunique()),
            "sensitivity": decided["sensitivity"],
            "specificity": decided["specificity"],
            "auc": area_under_curve(ranked["class"].to_numpy(dtype=np.int64), ranked["probability"].to_numpy()),
        }
