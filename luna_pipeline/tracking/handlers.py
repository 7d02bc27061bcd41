"""Handlers of a training run, chosen by name, and what all trackers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.events.messages import Handler, LogBatch, Message, MessageHandler, Mode
from luna_pipeline.tracking.outbox import PATIENCE_SECONDS, RetryingMessageHandler

if TYPE_CHECKING:
    from pathlib import Path

    from luna_pipeline.core.training.services import ServiceContainer
    from luna_pipeline.tracking.mlflow_inputs import DataInput
    from luna_pipeline.tracking.mlflow_run import MlflowRun

# Differs from ``training/loss``, the mean over a whole epoch.
BATCH_KEY = "training_batch"


@dataclass(frozen=True, kw_only=True)
class HandlerContext:
    """The run that a handler listens to.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        folder: Local folder for the run's logs, which the first handler that writes there creates.
        mlflow_run: The MLflow run, if any.
        write_line: Receives each line of progress; None prints to standard error.
        first_step: First step of a resumed run, in training samples seen.
        tags: Identity of the run: digests of configuration and data.
        registers_model: Whether to register the trained model.
        inputs: Data sets that the run reads.
    """

    name: str
    version: str
    folder: Path
    mlflow_run: MlflowRun | None = None
    write_line: Callable[[str], None] | None = None
    first_step: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    registers_model: bool = True
    inputs: Sequence[DataInput] = ()


class Tracker(Protocol):
    """Logs a run: its handlers receive the messages in order.

    A handler that cannot reach its tracker raises ``TrackerUnavailableError`` and receives the message again later.
    """

    def handlers(self) -> Mapping[type[Message], Handler]:
        """Return the handlers by message type."""

    def close(self) -> None:
        """Release resources; all messages have been sent."""


HANDLERS: Registry[Callable[[HandlerContext], Tracker]] = Registry(
    "handler",
    {
        "console": "luna_pipeline.tracking.console:console_handlers",
        "mlflow": "luna_pipeline.tracking.mlflow_handlers:mlflow_handlers",
        "tensorboard": "luna_pipeline.tracking.tensorboard_tracking:tensorboard_handlers",
    },
)


def build_handlers(
    names: Sequence[str],
    context: HandlerContext,
    services: ServiceContainer,
    *,
    also: Iterable[Mapping[type[Message], Handler]] = (),
    after: Iterable[Mapping[type[Message], Handler]] = (),
    patience_seconds: float = PATIENCE_SECONDS,
) -> MessageHandler:
    """Build trackers and the message handler that passes messages to them, and register all as services.

    The message handler is registered last, so that it sends its queued messages while the trackers are still open.

    Args:
        names: Names in ``HANDLERS``, in the order in which they receive a message.
        context: The run.
        services: Closes the trackers.
        also: Handlers to call before the trackers'.
        after: Handlers to call after the trackers'.
        patience_seconds: How long to wait for an unavailable tracker.

    Raises:
        ValueError: If a name is unknown or repeated, or a tracker lacks what it needs.
    """
    sources = list(also)
    for name in names:
        tracker = HANDLERS.get(name)(context)
        services.register_service(type(tracker), tracker, on_close=type(tracker).close)
        sources.append(tracker.handlers())
    handlers = handlers_by_message([*sources, *after])
    return services.register_context(MessageHandler, RetryingMessageHandler(handlers, patience_seconds))


def batch_values(message: LogBatch, *, every_nth_batch: int) -> dict[str, float]:
    """Return the values to log of a batch: ``training_batch/loss`` and ``training_batch/<name>`` of the others.

    The result is empty for a batch that is not logged, see ``is_kept``.
    """
    if not is_kept(message, every_nth_batch=every_nth_batch):
        return {}
    return {f"{BATCH_KEY}/{name}": value for name, value in {**message.values, "loss": message.loss}.items()}


def is_kept(message: LogBatch, *, every_nth_batch: int) -> bool:
    """Return whether to log a batch: the first and then each n-th training batch of an epoch.

    Raises:
        ValueError: If ``every_nth_batch`` is below 1.
    """
    if every_nth_batch < 1:
        msg = f"every_nth_batch must be at least 1, got {every_nth_batch}. Give a larger one."
        raise ValueError(msg)
    # The step stays the same during validation: all its batches would be one point.
    return message.mode == Mode.TRAINING and message.batch_index % every_nth_batch == 0


def handlers_by_message(sources: Iterable[Mapping[type[Message], Handler]]) -> dict[type[Message], list[Handler]]:
    """Merge the handlers of several trackers by message type, in the order of the trackers."""
    merged: dict[type[Message], list[Handler]] = {}
    for source in sources:
        for kind, handler in source.items():
            merged.setdefault(kind, []).append(handler)
    return merged
