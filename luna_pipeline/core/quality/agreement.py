"""Agreement of readers: how many marked each nodule, and how alike their ratings are.

Source:
    Krippendorff, Computing Krippendorff's alpha-reliability, University of Pennsylvania 2011: any number of readers,
    missing ratings allowed, which LIDC-IDRI's readers without identity need.
"""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.sources.source import RATINGS

_NODULE = ["series_instance_uid", "nodule"]
# Kinds without an order. All others are steps of a scale, compared by the square of their difference.
NOMINAL = ("internal_structure", "calcification")
AGREEMENT_COLUMNS = (
    *("rating", "num_nodules", "num_ratings", "mean", "num_pairs", "equal_share", "within_one_share", "alpha"),
)


def nodules_by_readers(readers: pd.DataFrame) -> pd.DataFrame:
    """Return how many nodules were marked by exactly, and by at least, 1, 2, 3 … readers.

    Args:
        readers: A row a reader and nodule, ``READER_COLUMNS``.

    Returns:
        ``num_readers``, ``num_nodules`` and ``share`` by exactly so many, ``num_at_least``.
    """
    marks = _one_mark_a_reader(readers).groupby(_NODULE, observed=True).size()
    counts = marks.value_counts().sort_index()
    full = counts.reindex(range(1, int(marks.max()) + 1 if len(marks) else 1), fill_value=0)
    return pd.DataFrame(
        {
            "num_readers": full.index.to_numpy(dtype=np.int64),
            "num_nodules": full.to_numpy(dtype=np.int64),
            "share": full.to_numpy() / max(1, int(full.sum())),
            "num_at_least": full.to_numpy()[::-1].cumsum()[::-1].astype(np.int64),
        }
    )


def rating_agreement(readers: pd.DataFrame) -> pd.DataFrame:
    """Return the agreement of readers on each rating.

    Args:
        readers: A row a reader and nodule, ``READER_COLUMNS``; ratings may be null.

    Returns:
        ``AGREEMENT_COLUMNS``: nodules with a rating, ratings and their mean; pairs of ratings of one nodule, the shares
        that are equal and that differ by at most 1; Krippendorff's alpha, 1 for perfect agreement and 0 for chance,
        nominal for ``NOMINAL``, else of an interval scale; nan where it is undefined.
    """
    rows = []
    marks = _one_mark_a_reader(readers)
    for rating in RATINGS:
        rated = marks[marks[rating].notna()] if rating in marks else marks.iloc[:0]
        if rated.empty:
            continue
        values = rated[rating].astype("float64")
        grouped = values.groupby([rated[name] for name in _NODULE], observed=True)
        units = [np.asarray(unit.to_numpy(), dtype=np.float64) for _, unit in grouped]
        differences = np.concatenate([_pair_differences(unit) for unit in units])
        has_pairs = differences.size > 0
        rows.append(
            (
                *(rating, len(units), len(rated), float(values.mean()), int(differences.size)),
                float((differences == 0).mean()) if has_pairs else math.nan,
                float((differences <= 1).mean()) if has_pairs else math.nan,
                krippendorff_alpha(units, is_nominal=rating in NOMINAL),
            )
        )
    return pd.DataFrame(rows, columns=list(AGREEMENT_COLUMNS))


def krippendorff_alpha(units: Iterable[NDArray[np.float64]], *, is_nominal: bool) -> float:
    """Return Krippendorff's alpha.

    Args:
        units: The ratings of each unit; units with fewer than two are not paired, and left out.
        is_nominal: Whether ratings are equal or not; else their squared difference counts.

    Returns:
        nan if nothing is paired, or all ratings are equal.
    """
    paired = [unit for unit in units if len(unit) > 1]
    if not paired:
        return math.nan
    pooled = np.concatenate(paired)
    observed = sum(_disagreement(unit, is_nominal=is_nominal) / (len(unit) - 1) for unit in paired) / pooled.size
    expected = _disagreement(pooled, is_nominal=is_nominal) / (pooled.size * (pooled.size - 1))
    return float(1 - observed / expected) if expected > 0 else math.nan


def _disagreement(values: NDArray[np.float64], *, is_nominal: bool) -> float:
    """Return the sum of the differences over all ordered pairs, from the counts of the values."""
    found, counts = np.unique(values, return_counts=True)
    apart = np.abs(found[:, None] - found[None, :])
    weights = (apart > 0).astype(np.float64) if is_nominal else apart**2
    return float(counts @ weights @ counts)


def _one_mark_a_reader(readers: pd.DataFrame) -> pd.DataFrame:
    """Leave out further marks of one reader in a nodule; readers of unknown identity (-1) are taken as different."""
    return readers[(readers["reader"] < 0) | ~readers.duplicated([*_NODULE, "reader"])]


def _pair_differences(values: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = np.triu_indices(len(values), k=1)
    return np.asarray(np.abs(values[first] - values[second]))
