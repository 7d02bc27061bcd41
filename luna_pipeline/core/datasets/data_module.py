"""The loaders of a run: training in the wanted ratio and changed at random, validation as it is."""

import hashlib

import torch
from torch.utils.data import DataLoader

from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, TrainingCutoutsDataset, as_it_is
from luna_pipeline.core.datasets.ratios import NoduleRatio, RatioSampler
from luna_pipeline.core.datasets.splits import index_fingerprint


class DataModule:
    """Training and validation data of one run.

    Neither the order nor the changes of the cutouts depend on the number of workers.

    Attributes:
        training: What the model learns from.
        validation: What chooses epoch and threshold, None where nothing does.
        batch_size: Samples of a batch; the last one of a pass may be smaller.
        num_workers: Processes that load; 0 loads in the process that trains, which suits mapped files.
    """

    def __init__(
        self,
        training: TrainingCutoutsDataset,
        validation: CutoutsDataset | None,
        *,
        batch_size: int,
        ratio: NoduleRatio,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Put the loaders together.

        Args:
            training: What the model learns from.
            validation: What chooses epoch and threshold.
            batch_size: Samples of a batch.
            ratio: Classes in training; validation keeps its own.
            num_workers: Processes that load.
            pin_memory: Whether batches lie in pinned memory, for a GPU.

        Raises:
            ValueError: If a series is in both, or their cutouts differ in shape.
        """
        self.training = training
        self.validation = validation
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._pin_memory = pin_memory
        self._sampler = RatioSampler(training.labels, ratio=ratio, seed=training.seed)
        if validation is not None:
            _check_apart(training, validation)

    @property
    def fingerprint(self) -> str:
        """Identity of the training and validation rows and their cutouts, 64 hexadecimal digits."""
        parts = [index_fingerprint(part.index) for part in (self.training, self.validation) if part is not None]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def get_training_dataloader(self, *, epoch: int) -> DataLoader[CutoutBatch]:
        """Return the batches of an epoch; their order and changes follow from seed and epoch alone."""
        self.training.set_epoch(epoch)
        self._sampler.epoch = epoch
        return self._dataloader(self.training, self._sampler)

    def get_validation_dataloader(self) -> DataLoader[CutoutBatch] | None:
        """Return the batches of the validation part, in the order of its rows; None where there is none."""
        return None if self.validation is None else self._dataloader(self.validation, None)

    def _dataloader(self, dataset: CutoutsDataset, sampler: RatioSampler | None) -> DataLoader[CutoutBatch]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=self._pin_memory,
            collate_fn=as_it_is,
            # Its own generator: a loader without one draws from torch's, and shifts every later dropout.
            generator=torch.Generator(),
        )


def _check_apart(training: CutoutsDataset, validation: CutoutsDataset) -> None:
    if shared := set(training.series) & set(validation.series):
        msg = f"A series must be in one part, got {len(shared)} in training and validation ({min(shared)})."
        raise ValueError(f"{msg} Split by fold with split_index.")
    if training.chunk_shape_irc != validation.chunk_shape_irc:
        msg = f"All cutouts must have one shape, got {training.chunk_shape_irc} and {validation.chunk_shape_irc}."
        raise ValueError(f"{msg} Run the job `cut` with one set of parameters.")
