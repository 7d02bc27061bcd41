"""The readers' malignancy ratings: 1 (highly unlikely) to 5 (highly suspicious)."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.malignancy_policies import DEFAULT_POLICY, MALIGNANCY_POLICIES, MalignancyPolicy

_TRUE, _FALSE = {"true", "1", "1.0"}, {"false", "0", "0.0"}
_RATINGS = re.compile(r"\[?\s*(\d+(?:[\s,;]+\d+)*)?\s*\]?")


def parse_ratings(text: str) -> list[int]:
    """Parse ratings as written in tables: "[4, 2, 4, 2]" or "4 2 4 2"; empty text has none.

    Raises:
        ValueError: If it holds anything but numbers from 1 to 5.
    """
    match = _RATINGS.fullmatch(text.strip())
    ratings = [int(number) for number in re.findall(r"\d+", text)] if match else [0]
    if any(not 1 <= rating <= 5 for rating in ratings):
        raise ValueError(f"Ratings must be numbers from 1 to 5, got {text!r}. Correct the table.")
    return ratings


def are_ratings(text: str) -> bool:
    """Return whether ``parse_ratings`` accepts a text."""
    try:
        parse_ratings(text)
    except ValueError:
        return False
    return True


def label_malignancy(table: pd.DataFrame, policy: str = DEFAULT_POLICY) -> pd.DataFrame:
    """Return mean rating and label of each nodule.

    Args:
        table: Text columns ``is_malignant`` and ``ratings``, one of them or both.
        policy: Name in ``MALIGNANCY_POLICIES``. With ``book`` a label in the file comes before the ratings, since the
            book's file has labels of that rule; with any other policy the ratings come first.

    Returns:
        ``malignancy`` (float64, mean rating, NaN without ratings) and ``is_malignant`` (boolean; null without label and
        ratings, and where the policy drops the nodule), same index.

    Raises:
        ValueError: If the policy is unknown.
    """
    rule = MALIGNANCY_POLICIES.get(policy)
    empty = pd.Series("", index=table.index, dtype=object)
    ratings = [parse_ratings(text) for text in table.get("ratings", empty)]
    words = table.get("is_malignant", empty)
    labels = [_label_of(text, rated, policy, rule) for text, rated in zip(words, ratings, strict=True)]
    means = np.array([np.mean(rated) if rated else np.nan for rated in ratings], dtype=np.float64)
    columns = {"malignancy": means, "is_malignant": pd.array(labels, dtype="boolean")}
    return pd.DataFrame(columns, index=table.index)


def count_labels(ratings: Sequence[Sequence[int]]) -> pd.DataFrame:
    """Return what each policy makes of the same nodules: malignant, benign, dropped.

    Args:
        ratings: Ratings of each nodule; nodules without any are left out.

    Returns:
        One row per policy: ``policy``, ``malignant``, ``benign``, ``dropped``.
    """
    rated = [list(values) for values in ratings if len(values)]
    rows = []
    for name in MALIGNANCY_POLICIES.names():
        labels = [MALIGNANCY_POLICIES.get(name)(values) for values in rated]
        rows.append((name, labels.count(True), labels.count(False), labels.count(None)))
    return pd.DataFrame(rows, columns=["policy", "malignant", "benign", "dropped"])


def describe_counts(counts: pd.DataFrame) -> list[str]:
    """Return a line per policy of ``count_labels``."""
    return [
        f"Malignancy by policy {name}: {malignant:,} malignant, {benign:,} benign, {dropped:,} dropped."
        for name, malignant, benign, dropped in counts.itertuples(index=False)
    ]


def _label_of(text: str, ratings: Sequence[int], policy: str, rule: MalignancyPolicy) -> bool | None:
    word = text.strip().lower()
    is_label = word in _TRUE | _FALSE
    if is_label and (policy == DEFAULT_POLICY or not ratings):
        return word in _TRUE
    return rule(ratings) if ratings else None
