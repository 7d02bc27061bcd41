"""Bootstrap over scans: scans are drawn with replacement, each with all its candidates.

Bootstrap samples are not built in memory. The number of times a scan is drawn is the weight of its candidates: the
curve of a draw is two cumulative sums over the sorted candidates.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
# With a single scan all draws are equal: the interval would have no width.
MIN_SCANS = 2


def scan_draws(num_scans: int, *, num_bootstraps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each scan is drawn in samples of ``num_scans`` scans.

    Args:
        num_scans: Number of scans.
        num_bootstraps: Number of samples.
        seed: Seed; the same number of scans and seed give the same draws.

    Yields:
        Counts (num_scans,), int64; they sum to ``num_scans``.

    Source:
        LUNA16's evaluation script calls ``numpy.random.randint(n, size=n)``: with the same global seed it draws the
        same samples.
    """
    generator = np.random.RandomState(seed)  # the script's generator
    for _ in range(num_bootstraps):
        yield np.bincount(generator.randint(num_scans, size=num_scans), minlength=num_scans)


@dataclass(frozen=True, eq=False, slots=True)
class RankedSamples:
    """Samples sorted by decreasing score; ties are one step of a curve.

    Attributes:
        thresholds: Distinct scores (G,), decreasing.
        is_positive: Classes of the sorted samples, bool (N,).
        scans: Indices of their scans, int64 (N,).
        ends: Index of the last sample of each distinct score (G,).
    """

    thresholds: NDArray[np.float64]
    is_positive: NDArray[np.bool_]
    scans: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, scores: ArrayLike, is_positive: ArrayLike, scans: ArrayLike) -> "RankedSamples":
        """Sort samples.

        Args:
            scores: Finite scores (N,).
            is_positive: Whether each sample is positive (N,).
            scans: Index of each sample's scan (N,).
        """
        values = np.asarray(scores, dtype=np.float64)
        order = np.argsort(-values, kind="stable")
        ranked = values[order]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.int64)
        labels, places = np.asarray(is_positive, dtype=bool), np.asarray(scans, dtype=np.int64)
        return cls(ranked[ends], labels[order], places[order], ends)

    def counts(self, draw: NDArray[np.int64] | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers of positives (G,) and negatives (G,) with at least each distinct score.

        Args:
            draw: How often each scan is drawn, see ``scan_draws``; None counts each sample once.
        """
        weights = np.ones(len(self.scans), dtype=np.int64) if draw is None else draw[self.scans]
        all_samples = np.cumsum(weights)[self.ends]
        positives = np.cumsum(weights * self.is_positive)[self.ends]
        return positives, all_samples - positives


def patient_groups(folds: pd.DataFrame) -> Mapping[str, str]:
    """Return the group of each series that is drawn together: its patient's, named by the patient's first series.

    With one series a patient the groups are the series, and the draws are those over scans.

    Args:
        folds: ``series_instance_uid`` and ``patient_hash``; a series without one is its own group and left out here.
    """
    known = folds.dropna(subset=["patient_hash"])
    uids = known["series_instance_uid"].astype(str)
    first = uids.groupby(known["patient_hash"].astype(str)).transform("min")
    return dict(zip(uids, first, strict=True))


def percentile_interval(values: ArrayLike, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return lower and upper bound of the percentile interval; nan if no value is defined.

    Args:
        values: Value of each draw (B,); nan is ignored.
        confidence: Share of the values between the bounds.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return float("nan"), float("nan")
    lower, upper = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lower), float(upper)
