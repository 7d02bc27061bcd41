"""What training says while it runs, and who listens: the loop knows messages, handlers know trackers."""

import enum
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)


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
    """

    must_succeed: ClassVar[bool] = False


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
    """A batch is done; ``batch_index`` counts from 0, ``loss`` is the batch's mean."""

    epoch: int
    mode: Mode
    batch_index: int
    num_batches: int
    num_samples_seen: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class LogBatchEnd(Message):
    """A pass over a data loader is over."""

    epoch: int
    mode: Mode
    num_batches: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LogMetrics(Message):
    """Values over all samples of an epoch; the step is always the number of training samples seen so far."""

    epoch: int
    mode: Mode
    num_samples_seen: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class LogResult(Message):
    """Labels (N,) and scores (N,) in [0, 1] of all samples of an epoch."""

    epoch: int
    mode: Mode
    num_samples_seen: int
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


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

    A handler that fails is reported and the message waits; it is handed over again before that handler's next
    message and at the end, so that a tracker that was away for a minute misses no number.

    Attributes:
        handlers: Handlers by type of message; a type without an entry is nobody's business.
    """

    handlers: Mapping[type[Message], Sequence[Handler]]
    _waiting: dict[Handler, deque[Message]] = field(default_factory=dict, init=False)

    def handle_message(self, message: Message) -> None:
        """Hand ``message`` to its handlers.

        Raises:
            Exception: Whatever a handler raised on a message that must succeed.
        """
        for handler in self.handlers.get(type(message), ()):
            queue = self._waiting.setdefault(handler, deque())
            queue.append(message)
            try:
                _drain(handler, queue)
            except Exception as error:
                if message.must_succeed:
                    queue.clear()
                    raise
                _log.warning(
                    "%s could not be logged and waits with %d others: %s",
                    type(message).__name__, len(queue) - 1, error,
                )  # fmt: skip

    def close(self) -> None:
        """Hand over what still waits.

        Raises:
            UndeliveredMessagesError: If a handler fails again.
        """
        failures = []
        for handler, queue in self._waiting.items():
            try:
                _drain(handler, queue)
            except Exception as error:
                failures.append(f"{len(queue)} by {getattr(handler, '__qualname__', handler)}: {error}")
        if failures:
            msg = f"Every message must be logged, got {'; '.join(failures)}. Check the tracker and run again."
            raise UndeliveredMessagesError(msg)


def _drain(handler: Handler, queue: deque[Message]) -> None:
    while queue:
        handler(queue[0])
        queue.popleft()
