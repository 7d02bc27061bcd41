"""Malignancy labels of LUNA16's nodules from the readers' ratings, compared with the book's table."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.malignancy import (
    count_labels,
    describe_counts,
    label_malignancy,
    parse_ratings,
)
from luna_pipeline.core.candidates.malignancy_policies import MALIGNANCY_POLICIES
from luna_pipeline.core.sources.luna16_key_check import as_numbers

# The book's table rounds positions otherwise.
_SAME_ROW_MM = 0.01
_AXES = ["x_mm", "y_mm", "z_mm"]


def compare_labels(rows: pd.DataFrame, rated: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the book's table with the labels that the policies give from the rebuilt ratings.

    Args:
        rows: ``KeyCheck.rows``.
        rated: ``annotations_with_malignancy.csv`` as text, with ``is_malignant``.

    Returns:
        Series, position, ``is_malignant`` of the file, ``ratings`` (text, empty where no row of the key has the
        position), and a boolean column per policy, null where it drops the nodule.
    """
    numbers = as_numbers(rated)
    labels = label_malignancy(rated[["is_malignant"]].astype(str))["is_malignant"]
    known = {str(uid): own for uid, own in rows[rows["x_mm"].notna()].groupby("series_instance_uid")}
    ratings = []
    for uid, *place in numbers[["series_instance_uid", *_AXES]].itertuples(index=False):
        own = known.get(uid)
        away_mm = np.zeros(0) if own is None else np.linalg.norm(own[_AXES].to_numpy(dtype=float) - place, axis=1)
        is_there = own is not None and away_mm.min() < _SAME_ROW_MM
        ratings.append(own["ratings"].iloc[int(away_mm.argmin())] if own is not None and is_there else "")
    table = numbers.drop(columns="diameter_mm").assign(is_malignant=labels, ratings=ratings)
    for policy in MALIGNANCY_POLICIES.names():
        table[policy] = label_malignancy(table[["ratings"]], policy)["is_malignant"]
    return table


def describe_labels(rows: pd.DataFrame, rated: pd.DataFrame | None) -> Iterator[str]:
    """Yield the counts of each policy over the rebuilt nodules, and how the book's labels compare.

    Args:
        rows: ``KeyCheck.rows``.
        rated: ``annotations_with_malignancy.csv`` as text, None without it.
    """
    yield from describe_counts(count_labels([parse_ratings(text) for text in rows["ratings"]]))
    if rated is None or "is_malignant" not in rated:
        return
    table = compare_labels(rows, rated)
    counts = Counter(table["is_malignant"].dropna())
    is_equal = (table["book"] == table["is_malignant"]).fillna(False)
    yield (
        f"annotations_with_malignancy.csv: {counts[True]} malignant and {counts[False]} not, of {len(table)} rows; "
        f"{int(is_equal.sum())} labels equal those of policy book from the rebuilt ratings."
    )
    columns = ["series_instance_uid", "is_malignant", "ratings"]
    for uid, label, own in table.loc[~is_equal.astype(bool), columns].to_numpy(dtype=object):
        found = f"ratings {own}" if own else "no nodule of the key at its position"
        yield f"Other label: {label} in the file, {found} (series {uid})."
