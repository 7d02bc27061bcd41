"""How often each group is shown in training, and the order in which its candidates come."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.checks import check_integer


class Ratio(Protocol):
    """How many of each group come together."""

    @property
    def shares(self) -> dict[str, int]:
        """Candidates of each group, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoduleRatio:
    """``nodule`` nodules to ``non_nodule`` other candidates, in every stretch of that many samples."""

    nodule: int = 1
    non_nodule: int = 5

    def __post_init__(self) -> None:
        _check_shares(self.shares)

    @property
    def shares(self) -> dict[str, int]:
        """Candidates of each group, by its name."""
        return {"nodule": self.nodule, "non_nodule": self.non_nodule}


@dataclass(frozen=True, slots=True, kw_only=True)
class MalignantRatio:
    """``malignant`` and ``benign`` nodules to ``non_nodule`` others, in every stretch of that many samples."""

    malignant: int = 1
    benign: int = 5
    non_nodule: int = 10

    def __post_init__(self) -> None:
        _check_shares(self.shares)

    @property
    def shares(self) -> dict[str, int]:
        """Candidates of each group, by its name."""
        return {"malignant": self.malignant, "benign": self.benign, "non_nodule": self.non_nodule}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """What a process loads as one batch.

    Attributes:
        positions: Rows of the data set, int64 (N,).
        repeats: How often each came before in the same epoch, int64 (N,); ``FILLER`` for one that does not count.
        num_in_step: Samples of the whole optimizer step, of all its batches in all processes.
    """

    positions: NDArray[np.int64]
    repeats: NDArray[np.int64]
    num_in_step: int


class RatioSampler:
    """Order of training: groups in the wanted ratio, nobody twice before everybody of the group once.

    Each group is an endless row of shuffled passes over its candidates. Epochs take their shares one after the other
    from these rows, so an epoch that cannot hold all candidates of a group is continued by the next one. Everything
    follows from (seed, epoch); an epoch can be drawn without the ones before it.
    """

    def __init__(self, groups: NDArray[np.integer], group_names: Sequence[str], *, ratio: Ratio, seed: int) -> None:
        """Sort the positions by group.

        Args:
            groups: Group of each row (N,), its place among the names.
            group_names: The data set's groups.
            ratio: Wanted ratio of the groups.
            seed: Seed of the run.

        Raises:
            ValueError: If the ratio is of other groups, or a group has no row.
        """
        if set(ratio.shares) != set(group_names):
            msg = f"The ratio must be of the data set's groups {', '.join(group_names)}, got {', '.join(ratio.shares)}."
            raise ValueError(f"{msg} Set `ratio` to the one that fits `dataset`.")
        self._seed = seed
        self._rows = [np.flatnonzero(np.asarray(groups) == group) for group in range(len(group_names))]
        self._num_samples = len(groups)
        counts = {name: len(rows) for name, rows in zip(group_names, self._rows, strict=True)}
        if missing := [name for name, count in counts.items() if count == 0]:
            found = ", ".join(f"{count} {name}" for name, count in counts.items())
            msg = f"Training must hold candidates of every group of the ratio, got none of {', '.join(missing)}"
            raise ValueError(f"{msg} ({found}). Choose other folds or add CTs.")
        last_first = range(len(group_names))[::-1]
        self._pattern = np.repeat(last_first, [ratio.shares[group_names[group]] for group in last_first])

    def __len__(self) -> int:
        return self._num_samples

    def positions(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions (N,) of an epoch, from 1, in their order."""
        order = self._order_of_groups()
        positions = np.empty(len(order), dtype=np.int64)
        for group, rows in enumerate(self._rows):
            is_group = order == group
            num_drawn = int(is_group.sum())
            start = (epoch - 1) * num_drawn
            positions[is_group] = self._draw(rows, group, start, start + num_drawn)
        return positions

    def repeats(self, epoch: int) -> NDArray[np.int64]:
        """Return how often each position (N,) of an epoch came before in the same epoch."""
        positions = self.positions(epoch)
        order = np.argsort(positions, kind="stable")
        starts = np.flatnonzero(np.diff(positions[order], prepend=-1))
        repeats = np.empty(len(order), dtype=np.int64)
        repeats[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        return repeats

    def _order_of_groups(self) -> NDArray[np.int64]:
        """Groups (N,): every stretch of the pattern's length has the ratio, shuffled within."""
        num_stretches = -(-len(self) // len(self._pattern))
        # The last stretch is cut; one order of groups for all epochs keeps each epoch's share of a group the same.
        generator = np.random.default_rng([self._seed, 0])
        stretches = generator.permuted(np.tile(self._pattern, (num_stretches, 1)), axis=1)
        return stretches.reshape(-1)[: len(self)]

    def _draw(self, rows: NDArray[np.int64], group: int, start: int, stop: int) -> NDArray[np.int64]:
        """Entries ``start`` to ``stop`` of the group's endless row of shuffled passes."""
        first_pass, last_pass = start // len(rows), (stop - 1) // len(rows)
        passes = [
            np.random.default_rng([self._seed, 1 + group, number]).permutation(rows)
            for number in range(first_pass, last_pass + 1)
        ]
        offset = first_pass * len(rows)
        return np.concatenate(passes)[start - offset : stop - offset] if passes else rows[:0]


def _check_shares(shares: dict[str, int]) -> None:
    for group, share in shares.items():
        check_integer(f"ratio.{group}", share, at_least=1)
