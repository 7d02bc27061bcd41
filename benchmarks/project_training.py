"""Loading, augmenting, training and evaluating with this project's public interface."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.training_data import TrainingSite, TrainingWorkload
from luna_pipeline.core.datasets.augmentation import AugmentationConfig, Flip
from luna_pipeline.core.datasets.augmenting import Augmenter
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.datasets.cutouts import CutoutsDataset
from luna_pipeline.core.events.messages import BaseMessageHandler, LogBatch, LogBatchEnd, Message, Mode
from luna_pipeline.core.models.base import BaseModel
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.training.building import build_data_module, build_model
from luna_pipeline.core.training.checkpoints import CheckpointStore
from luna_pipeline.core.training.config import ComputeConfig, TrainingConfig
from luna_pipeline.core.training.trainer import Trainer

NOTHING = AugmentationConfig(flip=Flip(probability=0.0))


class Listener(BaseMessageHandler):
    """Records messages."""

    def __init__(self) -> None:
        self.batch_losses: list[float] = []
        self.passes: dict[Mode, LogBatchEnd] = {}

    def handle_message(self, message: Message) -> None:
        """Keep losses of batches and ends of passes."""
        if isinstance(message, LogBatch):
            self.batch_losses.append(message.loss)
        elif isinstance(message, LogBatchEnd):
            self.passes[message.mode] = message

    def close(self) -> None:
        """Keep everything."""


class Batches(Sequence[CutoutBatch]):
    """Batches in memory with the interface of a loader."""

    def __init__(self, batches: list[CutoutBatch]) -> None:
        self._batches = batches

    def __getitem__(self, position: Any) -> Any:
        return self._batches[position]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[CutoutBatch]:
        return iter(self._batches)


class ProjectLoader:
    """Loads random samples in batches.

    Args:
        site: The cutouts.
        workload: Batch size and seed.
        is_augmented: Whether all five augmentations are applied to each sample.
    """

    def __init__(self, site: TrainingSite, workload: TrainingWorkload, *, is_augmented: bool) -> None:
        self._dataset = CutoutsDataset(site.index, site.store)
        augmentation = AugmentationConfig.all_five() if is_augmented else NOTHING
        self._augment = Augmenter(augmentation, seed=workload.seed)
        self._batch_size = workload.batch_size

    def load(self, positions: list[int]) -> Iterator[torch.Tensor]:
        """Yield float32 batches (N, 1, I, R, C) of these rows."""
        for start in range(0, len(positions), self._batch_size):
            batch = self._dataset.__getitems__(positions[start : start + self._batch_size])
            yield self._augment(batch.chunks_hu, batch.candidate_id, batch.repeat, epoch=1)


class ProjectClassifier:
    """A model of the project, one batch at a time.

    Args:
        config: Its configuration.
        num_batches: Batches of an epoch.
    """

    def __init__(self, config: TrainingConfig, *, num_batches: int = 1) -> None:
        self.listener = Listener()
        self.model: BaseModel[Any] = build_model(config, handler=self.listener, num_batches=num_batches)

    @property
    def network(self) -> torch.nn.Module:
        """The network."""
        return self.model.get_module()

    def train_step(self, chunks_hu: torch.Tensor, labels: torch.Tensor) -> float:
        """Learn from a batch (N, 1, I, R, C), labels (N,); return its loss."""
        self.model.do_training(1, batches_of((chunks_hu, labels)))  # type: ignore[attr-defined]
        return self.listener.batch_losses[-1]

    def evaluate(self, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
        """Return the loss of each sample of these batches (voxels and labels)."""
        result = self.model.do_validation(1, batches_of(*batches))  # type: ignore[attr-defined]
        return [float(loss) for loss in result.losses]


def batches_of(*batches: tuple[torch.Tensor, torch.Tensor]) -> Batches:
    """Return batches (voxels and labels) with the interface of a loader."""
    found = []
    for chunks_hu, labels in batches:
        count = torch.arange(len(labels))
        found.append(CutoutBatch(chunks_hu, labels, count, labels, torch.zeros_like(count), len(labels)))
    return Batches(found)


def config_of(
    workload: TrainingWorkload,
    *,
    dropout_rate: float,
    is_compiled: bool = False,
    augmentation: AugmentationConfig = NOTHING,
) -> TrainingConfig:
    """Return the configuration of a run of one epoch with the tutorial's network."""
    network = NetworkConfig(
        block="dropout3d",
        n_blocks=workload.n_blocks,
        conv_channels=workload.conv_channels,
        dropout_rate=dropout_rate,
        chunk_shape_irc=workload.chunk_shape_irc,
    )
    return TrainingConfig(
        network=network,
        compute=ComputeConfig(is_compiled=is_compiled),
        augmentation=augmentation,
        batch_size=workload.batch_size,
        seed=workload.seed,
        num_epochs=1,
    )


def train_epoch(site: TrainingSite, workload: TrainingWorkload, *, folder: Path, num_workers: int) -> LogBatchEnd:
    """Train one epoch with all five augmentations from files; return its seconds and those of waiting for data."""
    config = config_of(workload, dropout_rate=0.2, augmentation=AugmentationConfig.all_five())
    is_validation = site.index["fold"] == 1
    data = build_data_module(
        config,
        training_index=site.index[~is_validation],
        validation_index=site.index[is_validation],
        store=site.store,
        num_workers=num_workers,
    )
    classifier = ProjectClassifier(config, num_batches=data.num_training_batches)
    trainer = Trainer(config, handler=classifier.listener, store=CheckpointStore(folder / "checkpoints"))
    trainer.fit_epoch(1, classifier.model, data)
    return classifier.listener.passes[Mode.TRAINING]
