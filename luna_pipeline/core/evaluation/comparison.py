"""Whether one system is better than another on the same scans, or only seems so."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from luna_pipeline.core.evaluation.official import FrocResult
from luna_pipeline.core.evaluation.resampling import percentile_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How much better one system's CPM is than another's on the same draws of the same scans.

    Attributes:
        difference: CPM of the first less that of the second, on the scans as they are.
        lower: Lower bound of its 95 % interval.
        upper: Upper bound.
        share_better: Share of the draws in which the first is better; equal ones count half.
        num_bootstraps: Draws in which both are defined.
    """

    difference: float
    lower: float
    upper: float
    share_better: float
    num_bootstraps: int

    @classmethod
    def of_draws(cls, difference: float, first: ArrayLike, second: ArrayLike) -> "PairedDifference":
        """Compare the CPMs of two systems draw by draw.

        Args:
            difference: On the scans as they are.
            first: CPM of one system in each draw (B,); nan where it is not defined.
            second: Of the other one, in the same draws.
        """
        differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
        known = differences[~np.isnan(differences)]
        lower, upper = percentile_interval(known)
        share_better = float(np.mean((known > 0) + 0.5 * (known == 0))) if known.size else math.nan
        return cls(
            difference=difference, lower=lower, upper=upper, share_better=share_better, num_bootstraps=len(known)
        )

    @property
    def is_better(self) -> bool:
        """Whether the first is better beyond what other scans might change: the interval lies above 0."""
        return self.lower > 0

    def __str__(self) -> str:
        interval = f"[{self.lower:+.4f}, {self.upper:+.4f}]"
        return f"{self.difference:+.4f} {interval} ({self.num_bootstraps} draws of scans)"


def paired_difference(first: FrocResult, second: FrocResult) -> PairedDifference:
    """Compare two systems on the draws of scans that both were evaluated with.

    Args:
        first: One system.
        second: The other one, with the same list of scans, seed and number of draws.

    Raises:
        ValueError: If their draws are not the same.
    """
    if first.band is None or second.band is None:
        msg = "Two systems must be compared by draws of scans, got a result without. Evaluate with bootstraps."
        raise ValueError(msg)
    draws = [(r.samples.listed.tolist(), r.band.seed, r.band.num_bootstraps) for r in (first, second) if r.band]
    if draws[0] != draws[1]:
        found = [f"{len(listed)} scans, {number} draws of seed {seed}" for listed, seed, number in draws]
        msg = f"Two systems must be compared on the same draws of the same scans, got {found[0]} and {found[1]}."
        raise ValueError(f"{msg} Evaluate both with one list of scans and one seed.")
    return PairedDifference.of_draws(first.curve.cpm - second.curve.cpm, first.band.cpm, second.band.cpm)
