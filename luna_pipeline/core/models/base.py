"""What a trainer asks of a model, and what a model asks of those around it."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from luna_pipeline.core.messages import Mode
from luna_pipeline.core.metrics import binary_metrics

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
    """

    candidate_id: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def loss(self) -> float:
        """Mean over all samples."""
        return float(self.losses.mean())

    def metrics(self) -> dict[str, float]:
        """Loss and ``binary_metrics`` at 0.5, over all samples."""
        return {"loss": self.loss, **binary_metrics(self.labels, self.scores)}


@dataclass(frozen=True, eq=False, slots=True)
class EpochResult:
    """What came out of an epoch; without a validation there is no score of one, and never another in its place."""

    training: SplitResult
    validation: SplitResult | None


@dataclass(frozen=True, eq=False, slots=True)
class ModelState:
    """All that a model needs to go on as if it had never stopped, apart from torch's random numbers."""

    model_state: dict[str, torch.Tensor]
    optimizer_state: dict[str, Any]
    scheduler_state: dict[str, Any]
    num_samples_seen: int


class BaseModel(Protocol[BatchT_contra]):
    """A network with all that it takes to train it."""

    def fit_epoch(
        self,
        epoch: int,
        *,
        training_loader: DataLoader[BatchT_contra],
        validation_loader: DataLoader[BatchT_contra] | None,
    ) -> EpochResult:
        """Train on all batches of an epoch; then validate, where there is something to validate on."""

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
        self, loader: DataLoader[BatchT], *, epoch: int, mode: Mode
    ) -> Generator[tuple[int, BatchT], None, None]:
        """Yield each batch with its number, from 0; closing it early ends whatever loads."""
