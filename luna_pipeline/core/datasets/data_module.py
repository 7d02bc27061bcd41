"""Data loaders of a run: training in the configured ratio, validation unchanged; split over the processes."""

import hashlib
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from luna_pipeline.core.datasets.batching import Batches, BatchPlan
from luna_pipeline.core.datasets.loading_workers import fitting_workers, prepare_worker
from luna_pipeline.core.datasets.ratios import Ratio, RatioSampler
from luna_pipeline.core.datasets.sample_set import SampleSet, identity
from luna_pipeline.core.events.messages import Mode

_log = logging.getLogger(__name__)


class DataModule:
    """Training and validation data of one run.

    The order of the cutouts does not depend on the numbers of workers and processes: each process loads a part of every
    batch.

    Attributes:
        training: Training data.
        validation: Validation data, None for none.
        batch_size: Samples in a batch of all processes; the last one of an epoch may be smaller.
        num_workers: Processes that load; 0 loads in the training process, which suits mapped files.
    """

    def __init__(  # noqa: PLR0913
        self,
        training: SampleSet,
        validation: SampleSet | None,
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
        """Check the data sets and prepare the sampler.

        Args:
            training: Training data.
            validation: Validation data, None for none.
            batch_size: Samples in a batch of all processes.
            ratio: Ratio of the groups in training.
            seed: Seed of the run; determines the order of training.
            accumulate_batches: Batches of an optimizer step.
            rank: Number of this process, from 0.
            world_size: Number of processes that train together.
            num_workers: Processes that load.
            pin_memory: Whether to put batches into pinned memory, for a GPU.

        Raises:
            ValueError: If a series is in both parts, the shapes of the cutouts differ, the ratio is of other groups, or
                training lacks a group.
        """
        self.training = training
        self.validation = validation
        self.batch_size = batch_size
        batch_bytes = -(-batch_size // world_size) * training.sample_bytes
        self.num_workers = fitting_workers(num_workers, batch_bytes=batch_bytes, num_processes=world_size)
        self._pin_memory = pin_memory
        self._plan = BatchPlan(
            batch_size=batch_size, accumulate_batches=accumulate_batches, rank=rank, world_size=world_size
        )
        self._sampler = RatioSampler(training.groups, training.group_names, ratio=ratio, seed=seed)
        if rank == 0 and (warning := self._sampler.warning):
            _log.warning(warning)
        if validation is not None:
            _check_apart(training, validation)

    @property
    def fingerprint(self) -> str:
        """Digest of training and validation rows, labels and cutouts, 64 hexadecimal digits."""
        parts = [part.fingerprint for part in (self.training, self.validation) if part is not None]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def num_training_batches(self) -> int:
        """Batches of an epoch, the same for each process."""
        return self._plan.num_batches(len(self.training))

    def get_dataloader(self, mode: Mode, *, epoch: int = 1, first_batch: int = 0) -> DataLoader[Any] | None:
        """Return the loader of training or validation, None if there is no validation.

        Args:
            mode: Training or validation.
            epoch: The epoch, from 1; ignored for validation.
            first_batch: Number of batches to skip.

        Raises:
            ValueError: If the mode is neither, or there are fewer batches.
        """
        if mode is Mode.TRAINING:
            return self.get_training_dataloader(epoch=epoch, first_batch=first_batch)
        if mode is Mode.VALIDATION:
            return self.get_validation_dataloader(first_batch=first_batch)
        msg = f"A run must ask for its training or validation part, got {mode}."
        raise ValueError(f"{msg} Score test candidates with the finished classifier.")

    def get_training_dataloader(self, *, epoch: int, first_batch: int = 0) -> DataLoader[Any]:
        """Return the loader of an epoch, from 1; the order depends on seed and epoch only."""
        positions, repeats = self._sampler.positions(epoch), self._sampler.repeats(epoch)
        batches = Batches(positions, repeats, plan=self._plan, first_batch=first_batch, epoch=epoch)
        return self._dataloader(self.training, batches)

    def get_validation_dataloader(self, *, first_batch: int = 0) -> DataLoader[Any] | None:
        """Return the loader of the validation data in the order of its rows, None if there is none."""
        if self.validation is None:
            return None
        positions = np.arange(len(self.validation))
        plan = replace(self._plan, accumulate_batches=1)
        batches = Batches(positions, np.zeros_like(positions), plan=plan, first_batch=first_batch)
        return self._dataloader(self.validation, batches)

    def _dataloader(self, dataset: SampleSet, batches: Batches) -> DataLoader[Any]:
        return DataLoader(
            dataset,  # type: ignore[arg-type]  # a data set of torch as well
            batch_sampler=batches,
            num_workers=self.num_workers,
            pin_memory=self._pin_memory,
            collate_fn=identity,
            worker_init_fn=prepare_worker,
            # Without a generator, a loader draws from torch's, which changes every later dropout.
            generator=torch.Generator(),
        )


def _check_apart(training: SampleSet, validation: SampleSet) -> None:
    if shared := set(training.series) & set(validation.series):
        msg = f"A series must be in one part, got {len(shared)} in training and validation ({min(shared)})."
        raise ValueError(f"{msg} Split by fold with split_index.")
    if training.chunk_shape_irc != validation.chunk_shape_irc:
        msg = f"All cutouts must have one shape, got {training.chunk_shape_irc} and {validation.chunk_shape_irc}."
        raise ValueError(f"{msg} Run the job `cut` with one set of parameters.")
