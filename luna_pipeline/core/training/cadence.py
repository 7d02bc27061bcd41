"""When an epoch is validated, when a run is over, and when it is kept in between."""

import math

from luna_pipeline.core.config.checks import check_integer


def is_validation_due(epoch: int, *, num_epochs: int, cadence: int) -> bool:
    """Say whether an epoch is followed by a validation: the first, every ``cadence``-th, and the last.

    Args:
        epoch: The epoch, from 1.
        num_epochs: Epochs of the run.
        cadence: Validate every so many epochs.

    Raises:
        ValueError: If the epoch is not one of the run, or the cadence is below 1.
    """
    check_integer("epoch", epoch, at_least=1, at_most=num_epochs)
    check_integer("validation_cadence", cadence, at_least=1)
    return epoch in (1, num_epochs) or epoch % cadence == 0


def is_better(score: float, best_score: float, *, min_delta: float = 0.0) -> bool:
    """Say whether a score beats the best one by more than ``min_delta``; nan never does, and everything beats nan."""
    return not math.isnan(score) and (math.isnan(best_score) or score > best_score + min_delta)


def epochs_without_rise(before: int, *, score: float, best_score: float, min_delta: float) -> int:
    """Count the validated epochs in a row without a better score.

    Args:
        before: Those before this epoch.
        score: Validation score of this epoch; nan where it has none, which counts as nothing.
        best_score: The best before.
        min_delta: By how much it must rise.
    """
    if math.isnan(score):
        return before
    return 0 if is_better(score, best_score, min_delta=min_delta) else before + 1


def is_over(epoch: int, *, num_epochs: int, num_without_rise: int, patience: int | None) -> bool:
    """Say whether a run ends after an epoch: after its last one, or when its score has not risen for long enough.

    Args:
        epoch: The epoch that was finished, from 1; 0 before the first.
        num_epochs: Epochs of the run.
        num_without_rise: See ``epochs_without_rise``.
        patience: So many end the run; None for no such end.
    """
    return epoch >= num_epochs or (patience is not None and num_without_rise >= patience)


def is_checkpoint_due(seconds_since_last: float, *, every_seconds: float) -> bool:
    """Say whether a run within an epoch is to be kept."""
    return seconds_since_last >= every_seconds
