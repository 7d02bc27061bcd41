"""The readers' malignancy ratings: 1 (highly unlikely) to 5 (highly suspicious)."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

# The book's rule: malignant where at least two readers rated 4 or 5. A 3 means "indeterminate".
MALIGNANT_RATING = 4
MIN_MALIGNANT_READERS = 2

_TRUE, _FALSE = {"true", "1", "1.0"}, {"false", "0", "0.0"}
_RATINGS = re.compile(r"\[?\s*(\d+(?:[\s,;]+\d+)*)?\s*\]?")


def is_malignant_by_readers(ratings: Sequence[int]) -> bool:
    """Return whether at least two readers rated a nodule 4 or 5.

    Source:
        Stevens, Antiga, Viehmann, Deep Learning with PyTorch, chapter 14.
    """
    return sum(rating >= MALIGNANT_RATING for rating in ratings) >= MIN_MALIGNANT_READERS


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


def label_malignancy(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean rating and label of each nodule.

    Args:
        table: Text columns ``is_malignant`` and ``ratings``, one of them or both.

    Returns:
        ``malignancy`` (float64, mean rating, NaN without ratings) and ``is_malignant`` (boolean: as in the file, else
        by the readers' ratings; null without either), same index.
    """
    empty = pd.Series("", index=table.index, dtype=object)
    ratings = [parse_ratings(text) for text in table.get("ratings", empty)]
    labels = [_label_of(text, rated) for text, rated in zip(table.get("is_malignant", empty), ratings, strict=True)]
    means = np.array([np.mean(rated) if rated else np.nan for rated in ratings], dtype=np.float64)
    columns = {"malignancy": means, "is_malignant": pd.array(labels, dtype="boolean")}
    return pd.DataFrame(columns, index=table.index)


def _label_of(text: str, ratings: Sequence[int]) -> bool | None:
    word = text.strip().lower()
    if word in _TRUE | _FALSE:
        return word in _TRUE
    return is_malignant_by_readers(ratings) if ratings else None
