"""Rules that make a label of the readers' malignancy ratings, by name; pandas is not imported."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from luna_pipeline.core.config.registry import Registry

# The book's rule: malignant where at least two readers rated 4 or 5. A 3 means "indeterminate".
MALIGNANT_RATING = 4
MIN_MALIGNANT_READERS = 2
INDETERMINATE_RATING = 3

MalignancyPolicy: TypeAlias = Callable[[Sequence[int]], bool | None]
"""Returns the label of a nodule from one rating or more; None drops the nodule."""

_HERE = "luna_pipeline.core.candidates.malignancy_policies"
DEFAULT_POLICY = "book"
MALIGNANCY_POLICIES: Registry[MalignancyPolicy] = Registry(
    "malignancy policy",
    {
        "book": f"{_HERE}:is_malignant_by_readers",
        "mean": f"{_HERE}:is_malignant_by_mean",
        "median": f"{_HERE}:is_malignant_by_median",
    },
)


def is_malignant_by_readers(ratings: Sequence[int]) -> bool:
    """Return whether at least two readers rated a nodule 4 or 5.

    Source:
        Stevens, Antiga, Viehmann, Deep Learning with PyTorch, chapter 14.
    """
    return sum(rating >= MALIGNANT_RATING for rating in ratings) >= MIN_MALIGNANT_READERS


def is_malignant_by_mean(ratings: Sequence[int]) -> bool | None:
    """Return whether the mean rating is above 3; None if it is exactly 3."""
    # Whole numbers: a mean of thirds has no exact float.
    excess = sum(ratings) - INDETERMINATE_RATING * len(ratings)
    return excess > 0 if excess else None


def is_malignant_by_median(ratings: Sequence[int]) -> bool | None:
    """Return whether the median rating, of an even number the mean of the middle two, is above 3; None if it is 3."""
    ordered = sorted(ratings)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    excess = low + high - 2 * INDETERMINATE_RATING
    return excess > 0 if excess else None
