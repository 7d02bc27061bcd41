"""Split of an epoch into batches and processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.checks import check_integer
from luna_pipeline.core.datasets.batch import FILLER
from luna_pipeline.core.datasets.ratios import Draws


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """Numbers that determine the batches of a process.

    Attributes:
        batch_size: Samples in a batch of all processes; the last one of a pass may be smaller.
        accumulate_batches: Batches of an optimizer step; the last step of a pass may have fewer.
        rank: Number of this process, from 0.
        world_size: Number of processes; each loads a part of every batch.
    """

    batch_size: int
    accumulate_batches: int = 1
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        check_integer("batch_size", self.batch_size, at_least=1)
        check_integer("accumulate_batches", self.accumulate_batches, at_least=1)
        check_integer("world_size", self.world_size, at_least=1)
        check_integer("rank", self.rank, at_least=0, at_most=self.world_size - 1)

    def num_batches(self, num_samples: int) -> int:
        """Return the number of batches of a pass, equal in all processes."""
        return -(-num_samples // self.batch_size)

    def part(self, number: int, num_samples: int) -> slice:
        """Return the samples of a batch, counted from 0, that this process loads; possibly none."""
        start = number * self.batch_size
        each, more = divmod(min(self.batch_size, num_samples - start), self.world_size)
        first = start + self.rank * each + min(self.rank, more)
        return slice(first, first + each + (self.rank < more))

    def num_in_step(self, number: int, num_samples: int) -> int:
        """Return the number of samples of the optimizer step to which a batch belongs."""
        step_size = self.batch_size * self.accumulate_batches
        return min(step_size, num_samples - number // self.accumulate_batches * step_size)


class Batches:
    """The batches of a pass for one process: the ``batch_sampler`` of its ``DataLoader``."""

    def __init__(
        self,
        positions: NDArray[np.int64],
        repeats: NDArray[np.int64],
        *,
        plan: BatchPlan,
        first_batch: int = 0,
        epoch: int = 0,
    ) -> None:
        """Store the pass.

        Args:
            positions: Rows of the data set in the order of the pass (N,).
            repeats: Number of earlier draws of each (N,).
            plan: Split into batches.
            first_batch: Number of batches to skip.
            epoch: Epoch of training; 0 for evaluation.

        Raises:
            ValueError: If the pass has fewer batches.
        """
        self._positions, self._repeats = positions, repeats
        self._plan = plan
        self._epoch = epoch
        self._numbers = range(plan.num_batches(len(positions)))
        check_integer("first_batch", first_batch, at_least=0, at_most=len(self._numbers))
        self._numbers = self._numbers[first_batch:]

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Any]:
        # torch's type allows lists of positions only, but passes any object to the data set.
        return map(self._draws, self._numbers)

    def _draws(self, number: int) -> Draws:
        num_samples = len(self._positions)
        part, num_in_step = self._plan.part(number, num_samples), self._plan.num_in_step(number, num_samples)
        positions, repeats = self._positions[part], self._repeats[part]
        if not len(positions):
            # A process without a sample must take part in the step: the others wait for it.
            start = number * self._plan.batch_size
            positions, repeats = self._positions[start : start + 1], np.array([FILLER])
        return Draws(positions=positions, repeats=repeats, num_in_step=num_in_step, epoch=self._epoch)
