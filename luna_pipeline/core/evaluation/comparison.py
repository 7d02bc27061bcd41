"""Whether one system is better than another on the same scans, or only seems so."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from luna_pipeline.core.evaluation.official import FrocResult
from luna_pipeline.core.evaluation.resampling import percentile_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How much better one system's score, its CPM or AUC, is than another's on the same draws of the same scans.

    Attributes:
        difference: Score of the first less that of the second, on the scans as they are.
        lower: Lower bound of its 95 % interval.
        upper: Upper bound.
        num_bootstraps: Draws that define both scores, by which the interval is made.
    """

    difference: float
    lower: float
    upper: float
    num_bootstraps: int

    @classmethod
    def of_draws(cls, difference: float, first: ArrayLike, second: ArrayLike) -> "PairedDifference":
        """Compare the scores of two systems draw by draw.

        Args:
            difference: On the scans as they are.
            first: Score of one system in each draw (B,), of CPMs the comparable one; nan where there is no nodule.
            second: Of the other one, in the same draws.
        """
        differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
        known = differences[~np.isnan(differences)]
        lower, upper = percentile_interval(known)
        return cls(difference=difference, lower=lower, upper=upper, num_bootstraps=len(known))

    @property
    def is_better(self) -> bool:
        """Whether the first is better beyond what other scans might change: the interval lies above 0."""
        return self.lower > 0

    @property
    def is_worse(self) -> bool:
        """Whether the first is worse beyond what other scans might change: the interval lies below 0."""
        return self.upper < 0

    @property
    def in_words(self) -> str:
        """What is to be said of it: better, worse, or neither for sure."""
        return "better" if self.is_better else "worse" if self.is_worse else "not clearly better or worse"

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
    difference = first.curve.comparable_cpm - second.curve.comparable_cpm
    return PairedDifference.of_draws(difference, first.band.cpm, second.band.cpm)
