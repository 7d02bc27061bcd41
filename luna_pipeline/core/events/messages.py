"""Messages of a training run, and the handlers that receive them."""

import enum
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray


class Mode(enum.StrEnum):
    """Part of the data that a message is about."""

    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Message:
    """An event of a training run.

    Attributes:
        must_succeed: An error of a handler fails the run. For other messages training continues, and the message is
            sent again later.
        created_at: Time of the event, in seconds since 1970: trackers log late or repeated messages under it.
    """

    must_succeed: ClassVar[bool] = False
    created_at: float = field(default_factory=time.time, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class LogStart(Message):
    """Training starts."""

    description: str


@dataclass(frozen=True, kw_only=True)
class LogParams(Message):
    """Complete configuration of the run, flat: ``network.dropout_rate`` -> value."""

    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LogEpoch(Message):
    """An epoch starts; ``epoch`` counts from 1."""

    epoch: int
    num_epochs: int
    batch_size: int
    num_training_samples: int
    num_validation_samples: int


@dataclass(frozen=True, kw_only=True)
class LogBatchStart(Message):
    """A pass over a data loader starts."""

    epoch: int
    mode: Mode
    num_batches: int


@dataclass(frozen=True, kw_only=True)
class LogBatch(Message):
    """A batch is done; ``batch_index`` counts from 0, ``loss`` is the mean over the batch.

    Attributes:
        values: Further values of the step: ``gradient_norm``, ``learning_rate``.
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
    """A pass over a data loader is done; of its ``seconds``, the loop waited ``seconds_waiting`` for the loader."""

    epoch: int
    mode: Mode
    num_batches: int
    seconds: float
    seconds_waiting: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LogMetrics(Message):
    """Values over all samples of an epoch; the step is the number of training samples seen so far."""

    epoch: int
    mode: Mode
    num_samples_seen: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class LogResult(Message):
    """Labels (N,) and scores (N,) in [0, 1] of all samples of an epoch; ``label_names`` of the labels 0 and 1."""

    epoch: int
    mode: Mode
    num_samples_seen: int
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    label_names: tuple[str, str] = ("non_nodule", "nodule")


@dataclass(frozen=True, kw_only=True)
class LogPicture(Message):
    """A picture of an epoch; ``pixels`` are uint8 (H, W, 3), ``name`` a word such as ``slices``."""

    epoch: int
    mode: Mode
    num_samples_seen: int
    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class LogCheckpoint(Message):
    """The checkpoint ``path`` of an epoch is written; a run that is interrupted now resumes after this epoch."""

    must_succeed: ClassVar[bool] = True
    epoch: int
    num_samples_seen: int
    path: str


@dataclass(frozen=True, kw_only=True)
class LogProfile(Message):
    """Time spent in the profiled batches.

    Attributes:
        table: The most expensive operators, one a row.
        trace_file: The trace, for TensorBoard and Perfetto.
        waiting_share: Share of the time in which the loop waited for data, in [0, 1].
    """

    table: str
    trace_file: str
    waiting_share: float


@dataclass(frozen=True, kw_only=True)
class LogModel(Message):
    """The trained model, ready to be stored.

    Attributes:
        checkpoint: A ``core.training.checkpoints.Checkpoint``.
        module: The trained ``torch.nn.Module`` in evaluation mode, on the CPU.
        signature: Names, dtypes and shapes of input and output, a ``core.models.base.Signature``.
    """

    must_succeed: ClassVar[bool] = True
    name: str
    version: str
    checkpoint: Any
    module: Any
    signature: Any


Handler = Callable[[Any], None]


class BaseMessageHandler(Protocol):
    """Receives the messages of the training loop."""

    def handle_message(self, message: Message) -> None:
        """Handle a message; raises only if ``message.must_succeed``."""

    def close(self) -> None:
        """Send the messages that are still queued; raises if that fails."""


@dataclass
class MessageHandler:
    """Passes each message to the handlers of its type, in order.

    Attributes:
        handlers: Handlers by message type. Types without an entry are ignored.
    """

    handlers: Mapping[type[Message], Sequence[Handler]]

    def handle_message(self, message: Message) -> None:
        """Pass a message to the handlers of its type."""
        for handler in self.handlers.get(type(message), ()):
            handler(message)

    def close(self) -> None:
        """Do nothing: messages are not queued."""
