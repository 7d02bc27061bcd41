"""Names of sets of folds for reports."""

from collections.abc import Iterable


def folds_in_words(folds: Iterable[int], num_folds: int) -> str:
    """Return ``fold 0 of 5``, ``folds 0, 1 of 5``, ``all 5 folds`` or ``no fold``."""
    numbers = sorted(set(folds))
    if not numbers:
        return "no fold"
    if len(numbers) == num_folds > 1:
        return f"all {num_folds} folds"
    return f"fold{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))} of {num_folds}"
