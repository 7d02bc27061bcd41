"""What training says while it runs, and who listens: the loop knows messages, handlers know trackers."""

import enum
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.events.outbox import Outbox, TrackerUnavailableError

__all__ = [
    "BaseMessageHandler",
    "Handler",
    "LogBatch",
    "LogBatchEnd",
    "LogBatchStart",
    "LogCheckpoint",
    "LogEpoch",
    "LogMetrics",
    "LogModel",
    "LogParams",
    "LogProfile",
    "LogResult",
    "LogStart",
    "Message",
    "MessageHandler",
    "Mode",
    "TrackerUnavailableError",
    "UndeliveredMessagesError",
]


PATIENCE_SECONDS = 300.0


class Mode(enum.StrEnum):
    """Which part of the data a message speaks of."""

    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Message:
    """Something that happened in a training run.

    Attributes:
        must_succeed: A handler that fails on such a message fails the run; for the others training goes on and
            the message is handed over again later.
        said_at: When it happened, in seconds since 1970: what is handed over late stands at its own time, and what
            is handed over twice is the same twice.
    """

    must_succeed: ClassVar[bool] = False
    said_at: float = field(default_factory=time.time, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class LogStart(Message):
    """Training begins."""

    description: str


@dataclass(frozen=True, kw_only=True)
class LogParams(Message):
    """The complete configuration of the run, flat: ``network.dropout_rate`` -> value."""

    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LogEpoch(Message):
    """An epoch begins; ``epoch`` counts from 1."""

    epoch: int
    num_epochs: int
    batch_size: int
    num_training_samples: int
    num_validation_samples: int


@dataclass(frozen=True, kw_only=True)
class LogBatchStart(Message):
    """A pass over a data loader begins."""

    epoch: int
    mode: Mode
    num_batches: int


@dataclass(frozen=True, kw_only=True)
class LogBatch(Message):
    """A batch is done; ``batch_index`` counts from 0, ``loss`` is the batch's mean.

    Attributes:
        values: What else is known of the step: ``gradient_norm``, ``learning_rate``.
    """

    epoch: int
    mode: Mode
    batch_index: int
    num_batches: int
    num_samples_seen: int
    loss: float
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LogBatchEnd(Message):
    """A pass over a data loader is over; ``seconds_waiting`` of its ``seconds`` the loop waited for the loader."""

    epoch: int
    mode: Mode
    num_batches: int
    seconds: float
    seconds_waiting: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LogMetrics(Message):
    """Values over all samples of an epoch; the step is always the number of training samples seen so far."""

    epoch: int
    mode: Mode
    num_samples_seen: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class LogResult(Message):
    """Labels (N,) and scores (N,) in [0, 1] of all samples of an epoch; ``label_names`` says what 0 and 1 mean."""

    epoch: int
    mode: Mode
    num_samples_seen: int
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    label_names: tuple[str, str] = ("non_nodule", "nodule")


@dataclass(frozen=True, kw_only=True)
class LogCheckpoint(Message):
    """An epoch and all that was said of it is kept: a run that is ended now goes on after it.

    Attributes:
        path: The checkpoint.
    """

    must_succeed: ClassVar[bool] = True
    epoch: int
    num_samples_seen: int
    path: str


@dataclass(frozen=True, kw_only=True)
class LogProfile(Message):
    """Where the time of the batches that were profiled went.

    Attributes:
        table: The dearest operators, a row each.
        trace_file: The trace, for TensorBoard and Perfetto.
        waiting_share: Share of the time in which the loop waited for data, in [0, 1].
    """

    table: str
    trace_file: str
    waiting_share: float


@dataclass(frozen=True, kw_only=True)
class LogModel(Message):
    """The trained model, ready to be kept.

    Attributes:
        checkpoint: The ``Checkpoint`` to be kept (of ``core.training.checkpoints``).
        module: The trained ``torch.nn.Module`` in evaluation mode, on the CPU.
        signature: Names, dtypes and shapes of input and output (of ``core.models.base``).
    """

    must_succeed: ClassVar[bool] = True
    name: str
    version: str
    checkpoint: Any
    module: Any
    signature: Any


class BaseMessageHandler(Protocol):
    """What the training loop needs of a listener."""

    def handle_message(self, message: Message) -> None:
        """Take a message; raises only where ``message.must_succeed``."""

    def close(self) -> None:
        """Hand over what is still waiting; raises if that fails."""


class UndeliveredMessagesError(RuntimeError):
    """Messages that no attempt could hand over."""


Handler = Callable[[Any], None]


@dataclass
class MessageHandler:
    """Hands each message to the handlers of its type, in order, and forgets none.

    A tracker that is away (its handler raises ``TrackerUnavailableError``, ``ConnectionError`` or ``TimeoutError``)
    does not stop training: its messages wait, in their order, and are handed over when it is back, so that a tracker
    that was away for a minute misses no number. Only the message that must succeed waits for it, and so does ``close``.
    Handlers that are methods of one object are one tracker.

    Attributes:
        handlers: Handlers by type of message; a type without an entry is nobody's business.
        patience_seconds: How long a tracker that is away is waited for, by the model and at the end.
        clock: Seconds that only grow.
        sleep: Waits so many seconds; an interrupt ends it.
    """

    handlers: Mapping[type[Message], Sequence[Handler]]
    patience_seconds: float = PATIENCE_SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _outboxes: dict[int, Outbox] = field(default_factory=dict, init=False)

    def handle_message(self, message: Message) -> None:
        """Hand ``message`` to its handlers.

        Raises:
            Exception: Whatever a handler raised on a message that must succeed; an outage only after the patience.
        """
        for handler in self.handlers.get(type(message), ()):
            self._outbox_of(handler).take(handler, message, patience_seconds=self.patience_seconds)

    def close(self, error: BaseException | None = None) -> None:
        """Hand over what still waits.

        Args:
            error: What ends the run, if it was an error or an interrupt; it stays the one that is raised, and is told
                what could not be handed over. After an interrupt everything is tried once and nobody is waited for.

        Raises:
            UndeliveredMessagesError: If a tracker is away until the end of the patience, or refuses a message again.
        """
        is_interrupted = error is not None and not isinstance(error, Exception)
        deadline = self.clock() + (0.0 if is_interrupted else self.patience_seconds)
        left = [box.close(patience_seconds=deadline - self.clock()) for box in self._outboxes.values()]
        if not (undelivered := "; ".join(filter(None, left))):
            return
        msg = f"Every message must be logged, got {undelivered}. Check the tracker and run again."
        if error is None:
            raise UndeliveredMessagesError(msg)
        error.add_note(msg)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(error)

    def _outbox_of(self, handler: Handler) -> Outbox:
        tracker = getattr(handler, "__self__", handler)
        if id(tracker) not in self._outboxes:
            name = getattr(tracker, "__qualname__", type(tracker).__name__)
            self._outboxes[id(tracker)] = Outbox(name, clock=self.clock, sleep=self.sleep)
        return self._outboxes[id(tracker)]
