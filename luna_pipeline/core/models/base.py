"""The interface between trainers and models, and the results that they exchange."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from luna_pipeline.core.metrics.binary import area_under_curve, binary_metrics
from luna_pipeline.core.metrics.decision import Decision

BatchT_contra = TypeVar("BatchT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype (numpy's name) and shape of a tensor; -1 is a free size."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a served model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, eq=False, slots=True)
class SplitResult:
    """Scores and losses of all samples of a pass.

    Attributes:
        candidate_id: int64 (N,).
        labels: int64 (N,), 0 or 1.
        scores: float64 (N,), in [0, 1].
        losses: Loss of each sample, float64 (N,).
        groups: int64 (N,): 0 no nodule, 1 a (benign) nodule, 2 a malignant nodule.
    """

    candidate_id: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    losses: NDArray[np.float64]
    groups: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Iterable["SplitResult"]) -> Self:
        """Return the concatenated parts of a pass."""
        parts = list(parts)
        names = [entry.name for entry in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    @property
    def loss(self) -> float:
        """Mean over all samples."""
        return float(self.losses.mean())

    def metrics(self) -> dict[str, float]:
        """Return loss and ``binary_metrics`` at 0.5; where nodules have both labels, the AUC among nodules as well."""
        values = {"loss": self.loss, **binary_metrics(self.labels, self.scores)}
        is_nodule = self.groups > 0
        if (self.labels[is_nodule] == 0).any():
            values["auc_among_nodules"] = area_under_curve(self.labels[is_nodule], self.scores[is_nodule])
        return values

    def selection_score(self) -> float:
        """Return the score in [0, 1] that chooses the epoch: the AUC; nan where it is not defined."""
        return self.metrics()["auc"]

    def decision(self, series: NDArray[Any] | None = None) -> Decision:
        """Return thresholds and calibration that fit the scores.

        Args:
            series: Series of each sample (N,), which the choice of the calibration keeps together; None if not known.
        """
        return Decision.of(self.labels, self.scores, series)


@dataclass(frozen=True, eq=False, slots=True)
class EpochResult:
    """Result of an epoch; ``validation`` is None where the epoch was not validated."""

    training: SplitResult
    validation: SplitResult | None


@dataclass(frozen=True, eq=False, slots=True)
class EpochProgress:
    """Progress of the training pass of an epoch.

    Attributes:
        num_batches: Finished batches; the weights include all of them.
        result: Their samples; None before the first batch.
    """

    num_batches: int = 0
    result: SplitResult | None = None


BEGINNING = EpochProgress()
# Called after a training step with the number of finished batches and a function that returns their samples.
AfterStep = Callable[[int, Callable[[], SplitResult]], None]


@dataclass(frozen=True, slots=True)
class ClassificationTask:
    """Input shape and classes of a classifier.

    Attributes:
        chunk_shape_irc: Voxels of a cutout.
        label_names: Names of label 0 and label 1.
    """

    chunk_shape_irc: tuple[int, int, int]
    label_names: tuple[str, str] = ("non_nodule", "nodule")


@dataclass(frozen=True, eq=False, slots=True)
class ModelState:
    """Complete state of a model, apart from torch's random number generators."""

    model_state: dict[str, torch.Tensor]
    optimizer_state: dict[str, Any]
    scheduler_state: dict[str, Any]
    num_samples_seen: int


def do_nothing(_num_batches: int, _samples: Callable[[], SplitResult]) -> None:
    """Do nothing after a training step."""


class BaseModel(Protocol[BatchT_contra]):
    """A network with its loss, its optimizer, and an epoch of training and validation."""

    def fit_epoch(
        self,
        epoch: int,
        *,
        training_loader: DataLoader[BatchT_contra],
        validation_loader: DataLoader[BatchT_contra] | None,
        progress: EpochProgress = BEGINNING,
        after_step: AfterStep = do_nothing,
    ) -> EpochResult:
        """Train on all batches of an epoch, then validate if there is a validation part.

        Args:
            epoch: The epoch, from 1.
            training_loader: The remaining training batches.
            validation_loader: The validation part.
            progress: What this model, or the one whose state it has loaded, has finished of the epoch.
            after_step: Is called after each training step, when all parts of the model are consistent. An exception
                in it ends the epoch.
        """

    def get_module(self) -> torch.nn.Module:
        """Return the network without any wrapper."""

    def get_signature(self) -> Signature:
        """Return inputs and outputs of the network without running it."""

    def get_state(self) -> ModelState:
        """Return a copy of weights, optimizer and scheduler, on the CPU."""

    def load_state(self, state: ModelState) -> None:
        """Resume from a state."""
