"""Which samples a process loads as which batch."""

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
    """How the samples of a pass become batches, and whose.

    Attributes:
        batch_size: Samples of a batch of all processes together; the last one of a pass may be smaller.
        accumulate_batches: Batches of an optimizer step; the last step of a pass may have fewer.
        rank: Number of this process, from 0.
        world_size: Processes that load each a part of every batch.
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
        """Return how many batches a pass has, the same for each process."""
        return -(-num_samples // self.batch_size)

    def part(self, number: int, num_samples: int) -> slice:
        """Return which samples of a pass this process loads as a batch, counted from 0; none may be left for it."""
        start = number * self.batch_size
        each, more = divmod(min(self.batch_size, num_samples - start), self.world_size)
        first = start + self.rank * each + min(self.rank, more)
        return slice(first, first + each + (self.rank < more))

    def num_in_step(self, number: int, num_samples: int) -> int:
        """Return how many samples the optimizer step has that a batch belongs to."""
        step_size = self.batch_size * self.accumulate_batches
        return min(step_size, num_samples - number // self.accumulate_batches * step_size)


class Batches:
    """The batches of a pass, as a process loads them: the ``batch_sampler`` of its ``DataLoader``."""

    def __init__(
        self, positions: NDArray[np.int64], repeats: NDArray[np.int64], *, plan: BatchPlan, first_batch: int = 0
    ) -> None:
        """Part a pass.

        Args:
            positions: Rows of the data set in the order of the pass (N,).
            repeats: How often each came before (N,).
            plan: How they become batches.
            first_batch: The batch that is loaded first; those before it are done.

        Raises:
            ValueError: If the pass has fewer batches.
        """
        self._positions, self._repeats = positions, repeats
        self._plan = plan
        self._numbers = range(plan.num_batches(len(positions)))
        check_integer("first_batch", first_batch, at_least=0, at_most=len(self._numbers))
        self._numbers = self._numbers[first_batch:]

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Any]:
        # Draws; torch's type knows lists of positions only, but hands the data set whatever comes.
        return map(self._draws, self._numbers)

    def _draws(self, number: int) -> Draws:
        num_samples = len(self._positions)
        part, num_in_step = self._plan.part(number, num_samples), self._plan.num_in_step(number, num_samples)
        positions, repeats = self._positions[part], self._repeats[part]
        if not len(positions):
            # A process without a sample must take part all the same: the others would wait for it for ever.
            start = number * self._plan.batch_size
            positions, repeats = self._positions[start : start + 1], np.array([FILLER])
        return Draws(positions=positions, repeats=repeats, num_in_step=num_in_step)
