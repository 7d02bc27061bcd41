"""Drawing scans again, with replacement: the candidates of one scan come and go together.

A drawn sample is never put together. How often each scan was drawn is a weight of its samples, and since the order of
the scores does not change, two running sums over the ranked samples are the curve of a draw.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
# One scan drawn again is the same scan: that nothing moves says nothing of other scans.
MIN_SCANS = 2


def scan_draws(num_scans: int, *, num_bootstraps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each scan is drawn in a sample of as many scans.

    Args:
        num_scans: Scans there are.
        num_bootstraps: Samples to be drawn.
        seed: Of the draws; of two models with the same scans and seed both get the same draws.

    Yields:
        Counts (num_scans,), int64; they sum to ``num_scans``.

    Source:
        LUNA16's evaluation script draws ``numpy.random.randint(n, size=n)`` from numpy's global generator, so that a
        run of it that is seeded gives the same samples.
    """
    generator = np.random.RandomState(seed)  # the script's generator
    for _ in range(num_bootstraps):
        yield np.bincount(generator.randint(num_scans, size=num_scans), minlength=num_scans)


@dataclass(frozen=True, eq=False, slots=True)
class RankedSamples:
    """Scored samples by falling score; equal scores are one step of a curve.

    Attributes:
        thresholds: Distinct scores (G,), falling.
        is_positive: Of the samples in that order, bool (N,).
        scans: Their scans' places, int64 (N,).
        ends: Place of the last sample of each distinct score (G,).
    """

    thresholds: NDArray[np.float64]
    is_positive: NDArray[np.bool_]
    scans: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, scores: ArrayLike, is_positive: ArrayLike, scans: ArrayLike) -> "RankedSamples":
        """Rank samples.

        Args:
            scores: Finite scores (N,).
            is_positive: Whether each sample is of what is looked for (N,).
            scans: Place of each sample's scan (N,).
        """
        values = np.asarray(scores, dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        ranked = values[order]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.int64)
        return cls(
            ranked[ends], np.asarray(is_positive, dtype=bool)[order], np.asarray(scans, dtype=np.int64)[order], ends
        )

    def counts(self, draw: NDArray[np.int64] | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count positives and negatives from the highest score down to each distinct one.

        Args:
            draw: How often each scan was drawn, see ``scan_draws``; None counts each sample once.

        Returns:
            Positives (G,) and negatives (G,) with at least that score.
        """
        weights = np.ones(len(self.scans), dtype=np.int64) if draw is None else draw[self.scans]
        all_samples = np.cumsum(weights)[self.ends]
        positives = np.cumsum(weights * self.is_positive)[self.ends]
        return positives, all_samples - positives


def percentile_interval(values: ArrayLike, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the middle share of bootstrapped values; nan where no value is defined.

    Args:
        values: One value a draw (B,); nan where a draw does not define it, which is then left out.
        confidence: Share of the values between the bounds.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return float("nan"), float("nan")
    lower, upper = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)
