"""The loaders of a run: training in the wanted ratio, validation as it is; parted over the processes of the run."""

import hashlib
import signal
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader

from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.datasets.batching import Batches, BatchPlan
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, identity
from luna_pipeline.core.datasets.ratios import Ratio, RatioSampler
from luna_pipeline.core.events.messages import Mode


class DataModule:
    """Training and validation data of one run.

    The order of the cutouts depends neither on the number of workers nor on that of the processes that train together:
    these load each a part of every batch.

    Attributes:
        training: What the model learns from.
        validation: What chooses epoch and threshold, None where nothing does.
        batch_size: Samples of a batch of all processes together; the last one of a pass may be smaller.
        num_workers: Processes that load; 0 loads in the process that trains, which suits mapped files.
    """

    def __init__(  # noqa: PLR0913
        self,
        training: CutoutsDataset,
        validation: CutoutsDataset | None,
        *,
        batch_size: int,
        ratio: Ratio,
        seed: int,
        accumulate_batches: int = 1,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Put the loaders together.

        Args:
            training: What the model learns from.
            validation: What chooses epoch and threshold.
            batch_size: Samples of a batch, of all processes together.
            ratio: Groups in training; validation keeps its own.
            seed: Seed of the run, decides the order of training.
            accumulate_batches: Batches of an optimizer step.
            rank: Number of this process, from 0.
            world_size: Processes that train together.
            num_workers: Processes that load.
            pin_memory: Whether batches lie in pinned memory, for a GPU.

        Raises:
            ValueError: If a series is in both, their cutouts differ in shape, the ratio is of other groups, or training
                lacks one of them.
        """
        self.training = training
        self.validation = validation
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._pin_memory = pin_memory
        self._plan = BatchPlan(
            batch_size=batch_size, accumulate_batches=accumulate_batches, rank=rank, world_size=world_size
        )
        self._sampler = RatioSampler(training.groups, training.group_names, ratio=ratio, seed=seed)
        if validation is not None:
            _check_apart(training, validation)

    @property
    def fingerprint(self) -> str:
        """Identity of the training and validation rows, their labels and cutouts, 64 hexadecimal digits."""
        parts = [part.fingerprint for part in (self.training, self.validation) if part is not None]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def num_training_batches(self) -> int:
        """Batches of an epoch, the same for each process."""
        return self._plan.num_batches(len(self.training))

    def get_dataloader(self, mode: Mode, *, epoch: int = 1, first_batch: int = 0) -> DataLoader[CutoutBatch] | None:
        """Return the batches of a part of the data.

        Args:
            mode: Training or validation.
            epoch: The epoch, from 1; for validation all are the same.
            first_batch: How many batches are skipped because they are done.

        Returns:
            The loader; None for validation where there is none.

        Raises:
            ValueError: If the part is neither, or has fewer batches.
        """
        if mode is Mode.TRAINING:
            return self.get_training_dataloader(epoch=epoch, first_batch=first_batch)
        if mode is Mode.VALIDATION:
            return self.get_validation_dataloader(first_batch=first_batch)
        msg = f"A run must ask for its training or validation part, got {mode}."
        raise ValueError(f"{msg} Score test candidates with the finished classifier.")

    def get_training_dataloader(self, *, epoch: int, first_batch: int = 0) -> DataLoader[CutoutBatch]:
        """Return the batches of an epoch, from 1; their order follows from seed and epoch alone.

        Raises:
            ValueError: If fewer than ``first_batch`` batches are there to be skipped.
        """
        positions, repeats = self._sampler.positions(epoch), self._sampler.repeats(epoch)
        return self._dataloader(self.training, Batches(positions, repeats, plan=self._plan, first_batch=first_batch))

    def get_validation_dataloader(self, *, first_batch: int = 0) -> DataLoader[CutoutBatch] | None:
        """Return the batches of the validation part, in the order of its rows; None where there is none.

        Raises:
            ValueError: If fewer than ``first_batch`` batches are there to be skipped.
        """
        if self.validation is None:
            return None
        positions = np.arange(len(self.validation))
        plan = replace(self._plan, accumulate_batches=1)
        batches = Batches(positions, np.zeros_like(positions), plan=plan, first_batch=first_batch)
        return self._dataloader(self.validation, batches)

    def _dataloader(self, dataset: CutoutsDataset, batches: Batches) -> DataLoader[CutoutBatch]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self.num_workers,
            pin_memory=self._pin_memory,
            collate_fn=identity,
            worker_init_fn=_outlive_signals,
            # Its own generator: a loader without one draws from torch's, and shifts every later dropout.
            generator=torch.Generator(),
        )


def _outlive_signals(_worker: int) -> None:
    """Let a worker outlive a SIGTERM to all processes: whoever trains finishes its step first, and ends it then."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _check_apart(training: CutoutsDataset, validation: CutoutsDataset) -> None:
    if shared := set(training.series) & set(validation.series):
        msg = f"A series must be in one part, got {len(shared)} in training and validation ({min(shared)})."
        raise ValueError(f"{msg} Split by fold with split_index.")
    if training.chunk_shape_irc != validation.chunk_shape_irc:
        msg = f"All cutouts must have one shape, got {training.chunk_shape_irc} and {validation.chunk_shape_irc}."
        raise ValueError(f"{msg} Run the job `cut` with one set of parameters.")
