"""What a trainer asks of a model, and what a model asks of those around it."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from luna_pipeline.core.events.messages import Mode
from luna_pipeline.core.metrics.binary import binary_metrics

BatchT = TypeVar("BatchT")
BatchT_contra = TypeVar("BatchT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype (as numpy calls it) and shape of a tensor; -1 is free."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes into a model that is served, and what comes out of it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, eq=False, slots=True)
class SplitResult:
    """All samples of a pass, as the model judged them.

    Attributes:
        candidate_id: int64 (N,).
        labels: int64 (N,), 0 or 1.
        scores: float64 (N,), in [0, 1].
        losses: Loss of each sample, float64 (N,).
        groups: What each sample is, int64 (N,): 0 no nodule, 1 a (benign) nodule, 2 a malignant one.
    """

    candidate_id: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    losses: NDArray[np.float64]
    groups: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Iterable["SplitResult"]) -> "SplitResult":
        """Put the parts of a pass together, in their order."""
        parts = list(parts)
        return cls(
            **{entry.name: np.concatenate([getattr(part, entry.name) for part in parts]) for entry in fields(cls)}
        )

    @property
    def loss(self) -> float:
        """Mean over all samples."""
        return float(self.losses.mean())

    def metrics(self) -> dict[str, float]:
        """Loss and ``binary_metrics`` at 0.5, over all samples; where nodules have both labels, their AUC as well."""
        values = {"loss": self.loss, **binary_metrics(self.labels, self.scores)}
        is_nodule = self.groups > 0
        if (self.labels[is_nodule] == 0).any():
            values["auc_among_nodules"] = binary_metrics(self.labels[is_nodule], self.scores[is_nodule])["auc"]
        return values


@dataclass(frozen=True, eq=False, slots=True)
class EpochResult:
    """What came out of an epoch; without a validation there is no score of one, and never another in its place."""

    training: SplitResult
    validation: SplitResult | None


@dataclass(frozen=True, eq=False, slots=True)
class EpochProgress:
    """How far the training pass of an epoch is.

    Attributes:
        num_batches: Batches done; the weights have learned from all of them.
        result: Their samples; None before the first.
    """

    num_batches: int = 0
    result: SplitResult | None = None


BEGINNING = EpochProgress()
# Called after a training step with the batches done so far, and how to get at their samples.
AfterStep = Callable[[int, Callable[[], SplitResult]], None]


@dataclass(frozen=True, slots=True)
class ClassificationTask:
    """What a classifier is given and what it tells apart.

    Attributes:
        chunk_shape_irc: Voxels of a cutout.
        label_names: Words for label 0 and label 1.
    """

    chunk_shape_irc: tuple[int, int, int]
    label_names: tuple[str, str] = ("non_nodule", "nodule")


@dataclass(frozen=True, eq=False, slots=True)
class ModelState:
    """All that a model needs to go on as if it had never stopped, apart from torch's random numbers."""

    model_state: dict[str, torch.Tensor]
    optimizer_state: dict[str, Any]
    scheduler_state: dict[str, Any]
    num_samples_seen: int


def _let_pass(_num_batches: int, _samples: Callable[[], SplitResult]) -> None:
    """Let a training step pass."""


class BaseModel(Protocol[BatchT_contra]):
    """A network with all that it takes to train it."""

    def fit_epoch(
        self,
        epoch: int,
        *,
        training_loader: DataLoader[BatchT_contra],
        validation_loader: DataLoader[BatchT_contra] | None,
        progress: EpochProgress = BEGINNING,
        after_step: AfterStep = _let_pass,
    ) -> EpochResult:
        """Train on all batches of an epoch; then validate, where there is something to validate on.

        Args:
            epoch: The epoch, from 1.
            training_loader: The batches that are still to be learned from.
            validation_loader: The validation part.
            progress: What was done of this epoch before, by this model or the one whose state it has loaded.
            after_step: Is called after each training step, when all parts of the model fit together. What it raises
                ends the epoch.
        """

    def get_module(self) -> torch.nn.Module:
        """Return the network itself, without any wrapper."""

    def get_signature(self) -> Signature:
        """Say what the network takes and gives; nothing is computed with it."""

    def get_state(self) -> ModelState:
        """Return a copy of weights, optimizer and scheduler, on the CPU."""

    def load_state(self, state: ModelState) -> None:
        """Go on from there."""


class BaseIteratorProvider(Protocol):
    """Hands out the batches of a loader and reports on the pass."""

    def enumerate_batches(
        self, loader: DataLoader[BatchT], *, epoch: int, mode: Mode, first_batch: int = 0
    ) -> Generator[tuple[int, BatchT], None, None]:
        """Yield each batch with its number, from ``first_batch``; closing it early ends whatever loads."""
