"""Who listens to a training run, chosen by name, and what all trackers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.events.messages import PATIENCE_SECONDS, Handler, LogBatch, Message, MessageHandler, Mode

if TYPE_CHECKING:
    from pathlib import Path

    from luna_pipeline.core.training.services import ServiceContainer
    from luna_pipeline.tracking.mlflow_run import MlflowRun

# Apart from ``training/loss``, which is the mean over a whole epoch.
BATCH_KEY = "training_batch"


@dataclass(frozen=True, kw_only=True)
class HandlerContext:
    """What a handler may want to know of the run that it listens to.

    Attributes:
        name: Of the model.
        version: Of the model.
        folder: Folder of this machine for the run's logs; made by who writes there.
        mlflow_run: The run in MLflow, where there is one.
        write_line: Takes what is said to a person, line by line; None means standard error.
        first_step: Where a continued run goes on, in training samples seen.
        tags: What identifies the run: digests of configuration and data.
        registers_model: Whether the trained model is to be registered.
    """

    name: str
    version: str
    folder: Path
    mlflow_run: MlflowRun | None = None
    write_line: Callable[[str], None] | None = None
    first_step: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    registers_model: bool = True


class Tracker(Protocol):
    """Listens to a run; its handlers are called in the order of the messages.

    A handler that cannot reach its tracker raises ``TrackerUnavailableError`` and gets the message again later.
    """

    def handlers(self) -> Mapping[type[Message], Handler]:
        """Return who takes which type of message."""

    def close(self) -> None:
        """Let go of what is open; every message has been handed over."""


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
    """Build handlers and register each under its type, and the one that hands messages to them.

    The message handler comes last, so that it hands over what waits while the trackers are still open.

    Args:
        names: Handlers of ``HANDLERS``, in the order in which they hear a message.
        context: Of the run.
        services: Close the trackers.
        also: Who else listens, before the trackers.
        after: Who else listens, after them.
        patience_seconds: How long a tracker that is away is waited for, by the model and at the end.

    Raises:
        ValueError: If a name is unknown or there twice, or a handler lacks what it needs.
    """
    sources = list(also)
    for name in names:
        tracker = HANDLERS.get(name)(context)
        services.register_service(type(tracker), tracker, on_close=type(tracker).close)
        sources.append(tracker.handlers())
    return services.register_context(
        MessageHandler, MessageHandler(handlers_by_message([*sources, *after]), patience_seconds=patience_seconds)
    )


def batch_values(message: LogBatch, *, every_nth_batch: int) -> dict[str, float]:
    """Return what a tracker keeps of a batch, by key; nothing of a batch that it does not keep.

    Args:
        message: A batch that is done.
        every_nth_batch: At least 1.

    Returns:
        ``training_batch/loss``, and ``training_batch/<name>`` for every other value.
    """
    if not is_kept(message, every_nth_batch=every_nth_batch):
        return {}
    return {f"{BATCH_KEY}/{name}": value for name, value in {**message.values, "loss": message.loss}.items()}


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
