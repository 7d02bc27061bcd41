"""When an epoch is validated, which score is better, and when a run ends."""

import math

from luna_pipeline.core.config.checks import check_integer


def is_validation_due(epoch: int, *, num_epochs: int, cadence: int) -> bool:
    """Return whether an epoch (from 1) is validated: the first, every ``cadence``-th, and the last.

    Raises:
        ValueError: If the epoch is not one of the run, or the cadence is below 1.
    """
    check_integer("epoch", epoch, at_least=1, at_most=num_epochs)
    check_integer("validation_cadence", cadence, at_least=1)
    return epoch in (1, num_epochs) or epoch % cadence == 0


def is_better(score: float, best_score: float, *, min_delta: float = 0.0) -> bool:
    """Return whether a score exceeds the best one by more than ``min_delta``; nan is below every score."""
    return not math.isnan(score) and (math.isnan(best_score) or score > best_score + min_delta)


def epochs_without_rise(before: int, *, score: float, best_score: float, min_delta: float) -> int:
    """Return the number of validated epochs in a row without a better score.

    Args:
        before: Their number before this epoch.
        score: Validation score of this epoch; nan, if it was not validated, keeps the number.
        best_score: Best score before this epoch.
        min_delta: Smallest rise that counts.
    """
    if math.isnan(score):
        return before
    return 0 if is_better(score, best_score, min_delta=min_delta) else before + 1


def is_over(epoch: int, *, num_epochs: int, num_without_rise: int, patience: int | None) -> bool:
    """Return whether a run ends after an epoch (0 before the first): the last one, or by early stopping.

    Args:
        epoch: The finished epoch.
        num_epochs: Epochs of the run.
        num_without_rise: See ``epochs_without_rise``.
        patience: Epochs without a rise that end the run; None for no early stopping.
    """
    return epoch >= num_epochs or (patience is not None and num_without_rise >= patience)
