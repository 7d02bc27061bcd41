"""Samples of the candidates of each series; a sample depends only on its series."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSelection:
    """A sample of the candidates of each series; adding a series does not change the others.

    Attributes:
        training_length: Largest number of candidates per series, classes in the series' proportion, at least one of
            each existing class. None for all.
        max_negatives_per_series: Largest number of candidates of class 0 per series; the others stay. None for all.
        seed: Seed; with it a candidate's random number depends only on its id.

    Raises:
        ValueError: If a number is negative, or training_length is 0.
    """

    training_length: int | None = None
    max_negatives_per_series: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"training_length": (self.training_length, 1), "seed": (self.seed, 0)}
        limits["max_negatives_per_series"] = (self.max_negatives_per_series, 0)
        for name, (value, lowest) in limits.items():
            if value is not None and (not isinstance(value, int) or value < lowest):
                msg = f"{name} must be a whole number from {lowest}, got {value!r}. Give another or leave it out."
                raise ValueError(msg)

    @property
    def is_everything(self) -> bool:
        """Whether all candidates are selected."""
        return self.training_length is None and self.max_negatives_per_series is None

    def of(self, candidates: "pd.DataFrame") -> "pd.DataFrame":
        """Return the selected candidates in the order of the table.

        Args:
            candidates: ``series_instance_uid``, ``candidate_id`` and ``class`` (0 or 1).
        """
        if self.is_everything or candidates.empty:
            return candidates
        import pandas as pd

        series, uids = pd.factorize(candidates["series_instance_uid"])
        is_nodule = (candidates["class"] == 1).to_numpy()
        counts = np.bincount(2 * series + is_nodule, minlength=2 * len(uids)).reshape(-1, 2)
        strata = 2 * series + is_nodule
        ranks = _ranks(strata, _draws(candidates["candidate_id"].to_numpy(dtype=np.int64), self.seed))
        return candidates[ranks < self._quotas(counts).reshape(-1)[strata]]

    def _quotas(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of selected non-nodules and nodules of each series (S, 2), from their counts (S, 2)."""
        quotas = counts.copy()
        if self.training_length is not None:
            totals = np.maximum(counts.sum(axis=1), 1)
            shares = np.floor(self.training_length * counts[:, 1] / totals + 0.5).astype(np.int64)
            nodules = np.clip(shares, 1, max(1, self.training_length - 1))
            quotas[:, 1] = np.minimum(counts[:, 1], nodules)
            others = np.maximum(1, self.training_length - quotas[:, 1]) * (quotas[:, 1] < self.training_length)
            quotas[:, 0] = np.minimum(counts[:, 0], others)
            # If one class has too few, the other fills up.
            quotas[:, 1] = np.minimum(counts[:, 1], self.training_length - quotas[:, 0])
        if self.max_negatives_per_series is not None:
            quotas[:, 0] = np.minimum(quotas[:, 0], self.max_negatives_per_series)
        return quotas


def _draws(candidate_id: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Return a pseudorandom number for each candidate that depends only on seed and id.

    Source:
        The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    """
    values = candidate_id.astype(np.uint64) + np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % 2**64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _ranks(strata: NDArray[np.int64], draws: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the rank of each row within its stratum, by its draw."""
    order = np.lexsort((draws, strata))
    ordered = strata[order]
    starts = np.searchsorted(ordered, ordered)
    ranks = np.empty(len(strata), dtype=np.int64)
    ranks[order] = np.arange(len(strata)) - starts
    return ranks
