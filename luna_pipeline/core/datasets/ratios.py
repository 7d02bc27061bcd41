"""How often each class is shown in training, and the order in which its candidates come."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ranges import check_integer


@dataclass(frozen=True, slots=True, kw_only=True)
class NoduleRatio:
    """``nodule`` nodules to ``non_nodule`` other candidates, in every stretch of that many samples."""

    nodule: int = 1
    non_nodule: int = 5

    def __post_init__(self) -> None:
        check_integer("ratio.nodule", self.nodule, at_least=1)
        check_integer("ratio.non_nodule", self.non_nodule, at_least=1)


class RatioSampler:
    """Order of training: classes in the wanted ratio, nobody twice before everybody of the class once.

    Each class is an endless row of shuffled passes over its candidates. Epochs take their shares one after
    the other from these rows, so an epoch that cannot hold all candidates of a class is continued by the next
    one. Everything follows from (seed, epoch); an epoch can be drawn without the ones before it. For use as a
    ``DataLoader``'s sampler.

    Attributes:
        epoch: The epoch that the next iteration draws, from 1.
    """

    def __init__(self, labels: NDArray[np.integer], *, ratio: NoduleRatio, seed: int) -> None:
        """Sort the positions by class.

        Args:
            labels: Class of each row (N,), 0 or 1.
            ratio: Wanted ratio of the classes.
            seed: Seed of the run.

        Raises:
            ValueError: If a class has no row.
        """
        self.epoch = 1
        self._seed = seed
        self._pattern = np.repeat([1, 0], [ratio.nodule, ratio.non_nodule])
        self._rows = [np.flatnonzero(np.asarray(labels) == label) for label in (0, 1)]
        self._num_samples = len(labels)
        if not all(len(rows) for rows in self._rows):
            msg = (
                f"Training must hold candidates of both classes, got {len(self._rows[1])} nodules and "
                f"{len(self._rows[0])} others. Choose other folds or add CTs."
            )
            raise ValueError(msg)

    def __len__(self) -> int:
        return self._num_samples

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions().tolist())

    def positions(self) -> NDArray[np.int64]:
        """Return the positions (N,) of this epoch in their order."""
        order = self._order_of_classes()
        positions = np.empty(len(order), dtype=np.int64)
        for label, rows in enumerate(self._rows):
            is_label = order == label
            num_drawn = int(is_label.sum())
            start = (self.epoch - 1) * num_drawn
            positions[is_label] = self._draw(rows, label, start, start + num_drawn)
        return positions

    def _order_of_classes(self) -> NDArray[np.int64]:
        """Classes (N,): every stretch of the pattern's length has the ratio, shuffled within."""
        num_stretches = -(-len(self) // len(self._pattern))
        # The last stretch is cut; one order of classes for all epochs keeps each epoch's share of a class the
        # same.
        generator = np.random.default_rng([self._seed, 0])
        stretches = generator.permuted(np.tile(self._pattern, (num_stretches, 1)), axis=1)
        return stretches.reshape(-1)[: len(self)]

    def _draw(self, rows: NDArray[np.int64], label: int, start: int, stop: int) -> NDArray[np.int64]:
        """Entries ``start`` to ``stop`` of the class's endless row of shuffled passes."""
        first_pass, last_pass = start // len(rows), (stop - 1) // len(rows)
        passes = [
            np.random.default_rng([self._seed, 1 + label, number]).permutation(rows)
            for number in range(first_pass, last_pass + 1)
        ]
        offset = first_pass * len(rows)
        return np.concatenate(passes)[start - offset : stop - offset] if passes else rows[:0]
