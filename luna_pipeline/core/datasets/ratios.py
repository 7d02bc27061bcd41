"""Ratio of the groups in training, and the order of their candidates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.checks import check_integer

# A stretch of this many samples takes 10 ms to shuffle.
LARGEST_SHARE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Number of samples of each group in every stretch of training samples; a field for each group."""

    def __post_init__(self) -> None:
        for group, share in self.shares.items():
            check_integer(f"ratio.{group}", share, at_least=1, at_most=LARGEST_SHARE)

    @property
    def shares(self) -> dict[str, int]:
        """Samples of each group, by its name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class NoduleRatio(Ratio):
    """Ratio of nodules and other candidates.

    Attributes:
        nodule: Number of nodules.
        non_nodule: Number of other candidates.
    """

    nodule: int = 1
    non_nodule: int = 5


@dataclass(frozen=True, kw_only=True)
class MalignantRatio(Ratio):
    """Ratio of malignant nodules, benign nodules and other candidates.

    Attributes:
        malignant: Number of malignant nodules.
        benign: Number of benign nodules.
        non_nodule: Number of other candidates.
    """

    malignant: int = 1
    benign: int = 5
    non_nodule: int = 10


@dataclass(frozen=True, kw_only=True)
class PlaceRatio(Ratio):
    """Ratio of the crops that segmentation is trained on.

    Attributes:
        nodule: Number of crops around nodules.
        look_alike: Number of crops around candidates that are none.
        background: Number of crops anywhere in the body.
    """

    nodule: int = 2
    look_alike: int = 1
    background: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """A batch as one process loads it.

    Attributes:
        positions: Rows of the data set, int64 (N,).
        repeats: Number of earlier draws of each row in the epoch, int64 (N,); ``FILLER`` for a sample to ignore.
        num_in_step: Samples of the whole optimizer step in all processes.
        epoch: Epoch of training, from 1; 0 in evaluation, where nothing is random.
    """

    positions: NDArray[np.int64]
    repeats: NDArray[np.int64]
    num_in_step: int
    epoch: int = 0


class RatioSampler:
    """Order of training: groups in a ratio, without replacement within a group until it is exhausted.

    Each group is an endless sequence of shuffled passes over its candidates, from which the epochs take their shares
    one after the other. The order depends on (seed, epoch) only; an epoch can be drawn without the earlier ones.

    An epoch that is shorter than one stretch of the ratio continues where the epoch before it ended, so that each group
    has its share over epochs.
    """

    def __init__(self, groups: NDArray[np.integer], group_names: Sequence[str], *, ratio: Ratio, seed: int) -> None:
        """Collect the rows of each group.

        Args:
            groups: Number of each row's group in ``group_names`` (N,).
            group_names: Groups of the data set.
            ratio: Ratio of the groups.
            seed: Seed of the run.

        Raises:
            ValueError: If the ratio is of other groups, or a group has no row; of three groups ``non_nodule`` may have
                none.
        """
        if set(ratio.shares) != set(group_names):
            msg = f"The ratio must be of the data set's groups {', '.join(group_names)}, got {', '.join(ratio.shares)}."
            raise ValueError(f"{msg} Set `ratio` to the one that fits `dataset`.")
        self._seed = seed
        self._rows = [np.flatnonzero(np.asarray(groups) == group) for group in range(len(group_names))]
        self._num_samples = len(groups)
        counts = {name: len(rows) for name, rows in zip(group_names, self._rows, strict=True)}
        # Sources of single nodules have no other candidates: malignancy is then trained on nodules alone.
        needed = [name for name in group_names if name != "non_nodule" or len(group_names) == 2]
        if missing := [name for name in needed if counts[name] == 0]:
            found = ", ".join(f"{count} {name}" for name, count in counts.items())
            msg = f"Training must hold candidates of every group of the ratio, got none of {', '.join(missing)}"
            raise ValueError(f"{msg} ({found}). Choose other folds or add CTs.")
        self._ratio, self._group_names = ratio, group_names
        last_first = [group for group, name in enumerate(group_names) if counts[name]][::-1]
        self._pattern = np.repeat(last_first, [ratio.shares[group_names[group]] for group in last_first])

    def __len__(self) -> int:
        return self._num_samples

    @property
    def warning(self) -> str | None:
        """Samples of each group in an epoch on average, if an epoch is shorter than the ratio; None if it fits."""
        if self._fits:
            return None
        length = len(self._pattern)
        there = {name for name, rows in zip(self._group_names, self._rows, strict=True) if len(rows)}
        shares = {name: share for name, share in self._ratio.shares.items() if name in there}
        means = [f"{name} {self._num_samples * share / length:.3g}" for name, share in shares.items()]
        msg = f"An epoch must have at least the {length} samples of the ratio to show it whole, got {len(self)}"
        return f"{msg} (samples per epoch on average: {', '.join(means)}). Lower the ratio, or train more epochs."

    def positions(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions (N,) of an epoch, from 1, in the order of training."""
        order, num_earlier = self._whole_order(epoch) if self._fits else self._part_of_order(epoch)
        positions = np.empty(len(order), dtype=np.int64)
        for group, rows in enumerate(self._rows):
            is_group = order == group
            start = int(num_earlier[group])
            positions[is_group] = self._draw(rows, group, start, start + int(is_group.sum()))
        return positions

    def repeats(self, epoch: int) -> NDArray[np.int64]:
        """Return the number of earlier draws of each position (N,) in the same epoch."""
        positions = self.positions(epoch)
        order = np.argsort(positions, kind="stable")
        starts = np.flatnonzero(np.diff(positions[order], prepend=-1))
        repeats = np.empty(len(order), dtype=np.int64)
        repeats[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        return repeats

    @property
    def _fits(self) -> bool:
        return len(self._pattern) <= self._num_samples

    def _whole_order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the groups (N,) of an epoch, each stretch in the ratio, and the earlier samples of each group."""
        num_stretches = -(-len(self) // len(self._pattern))
        # The last stretch is truncated; the same order in all epochs keeps the number of each group constant.
        generator = np.random.default_rng([self._seed, 0])
        stretches = generator.permuted(np.tile(self._pattern, (num_stretches, 1)), axis=1)
        order = stretches.reshape(-1)[: len(self)]
        return order, (epoch - 1) * self._counts(order)

    def _part_of_order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the same of an epoch that is part of an endless sequence of stretches."""
        first, start = divmod((epoch - 1) * len(self), len(self._pattern))
        # The epoch lies in one stretch or in two.
        stretches = np.concatenate(
            [np.random.default_rng([self._seed, 0, number]).permutation(self._pattern) for number in (first, first + 1)]
        )
        earlier = first * self._counts(self._pattern) + self._counts(stretches[:start])
        return stretches[start : start + len(self)], earlier

    def _counts(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the samples of each group (G,)."""
        return np.bincount(groups, minlength=len(self._rows))

    def _draw(self, rows: NDArray[np.int64], group: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return entries ``start`` to ``stop`` of the group's sequence of shuffled passes."""
        if start == stop:
            return rows[:0]
        first_pass, last_pass = start // len(rows), (stop - 1) // len(rows)
        passes = [
            np.random.default_rng([self._seed, 1 + group, number]).permutation(rows)
            for number in range(first_pass, last_pass + 1)
        ]
        offset = first_pass * len(rows)
        return np.concatenate(passes)[start - offset : stop - offset]
