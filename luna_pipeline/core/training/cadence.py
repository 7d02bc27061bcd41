"""When an epoch is validated."""

from luna_pipeline.core.ranges import check_integer


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
