"""Paired comparison of two systems on the same bootstrap samples of scans."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from luna_pipeline.core.evaluation.official import FrocResult
from luna_pipeline.core.evaluation.resampling import percentile_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Difference of two systems' scores (CPM or AUC) with its 95 % bootstrap interval.

    Attributes:
        difference: Score of the first system minus that of the second, on the original scans.
        lower: Lower bound of the interval.
        upper: Upper bound of the interval.
        num_bootstraps: Number of draws in which both scores are defined.
    """

    difference: float
    lower: float
    upper: float
    num_bootstraps: int

    @classmethod
    def of_draws(cls, difference: float, first: ArrayLike, second: ArrayLike) -> "PairedDifference":
        """Create the comparison from the scores in each draw.

        Args:
            difference: Difference on the original scans.
            first: Scores of the first system (B,); for the CPM ``comparable_cpm``. nan where a draw has no nodule.
            second: Scores of the second system in the same draws (B,).
        """
        differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
        known = differences[~np.isnan(differences)]
        lower, upper = percentile_interval(known)
        return cls(difference=difference, lower=lower, upper=upper, num_bootstraps=len(known))

    @property
    def is_better(self) -> bool:
        """Whether the first system is significantly better: the interval lies above 0."""
        return self.lower > 0

    @property
    def is_worse(self) -> bool:
        """Whether the first system is significantly worse: the interval lies below 0."""
        return self.upper < 0

    @property
    def in_words(self) -> str:
        """Result in words: better, worse, or neither."""
        return "better" if self.is_better else "worse" if self.is_worse else "not clearly better or worse"

    def __str__(self) -> str:
        interval = f"[{self.lower:+.4f}, {self.upper:+.4f}]"
        return f"{self.difference:+.4f} {interval} ({self.num_bootstraps} draws)"


def paired_difference(first: FrocResult, second: FrocResult) -> PairedDifference:
    """Compare the CPMs of two systems that were evaluated on the same draws of scans.

    Raises:
        ValueError: If the lists of scans, the seeds or the numbers of draws differ.
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
