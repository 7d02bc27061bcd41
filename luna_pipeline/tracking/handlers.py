"""What all trackers share: which batches are kept, under which key, and who hears which message."""

from collections.abc import Iterable, Mapping

from luna_pipeline.core.messages import Handler, LogBatch, Message, Mode

# Apart from ``training/loss``, which is the mean over a whole epoch.
BATCH_LOSS_KEY = "training_batch/loss"


def is_kept(message: LogBatch, *, every_nth_batch: int) -> bool:
    """Return whether a tracker keeps this batch: the first and then each n-th training batch of an epoch.

    Args:
        message: A batch that is done.
        every_nth_batch: At least 1.

    Raises:
        ValueError: If ``every_nth_batch`` is below 1.
    """
    if every_nth_batch < 1:
        msg = f"every_nth_batch must be at least 1, got {every_nth_batch}. Give a larger one."
        raise ValueError(msg)
    # Validation does not move the step: its batches would all lie on one point.
    return message.mode == Mode.TRAINING and message.batch_index % every_nth_batch == 0


def handlers_by_message(
    sources: Iterable[Mapping[type[Message], Handler]],
) -> dict[type[Message], list[Handler]]:
    """Put the handlers of several trackers together, in the order of the trackers.

    Args:
        sources: For each tracker, who takes which type of message.
    """
    together: dict[type[Message], list[Handler]] = {}
    for source in sources:
        for kind, handler in source.items():
            together.setdefault(kind, []).append(handler)
    return together
