"""Calibration errors of scores, and the table behind a reliability diagram."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

NUM_BINS = 10
RELIABILITY_COLUMNS = ("bin", "mean_score", "share_of_positives", "count")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationError:
    """Expected calibration error of scores, and the part of it that chance explains.

    Attributes:
        ece: See ``calibration_errors``; nan without a calibration.
        by_chance: See ``chance_error``.
    """

    ece: float
    by_chance: float

    @classmethod
    def of(cls, labels: NDArray[np.integer], scores: NDArray[np.floating]) -> "CalibrationError":
        """Return the error of scores (N,) in [0, 1] against labels (N,), 0 or 1."""
        return cls(ece=calibration_errors(labels, scores)["ece"], by_chance=chance_error(scores))


def calibration_errors(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> dict[str, float]:
    """Return Brier score and expected calibration error (ECE).

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,), in [0, 1].

    Returns:
        ``brier``, the mean squared error, and ``ece``, the absolute difference of mean score and share of positives,
        averaged over the bins of ``reliability_table``, weighted by count; nan without samples or where a score is nan.
        If positives are rare, both are small even for useless scores: compare them with those of the zero rule.

    Source:
        Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78 (1950) 1-3;
        Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    if len(labels) == 0 or np.isnan(scores).any():
        return {"brier": math.nan, "ece": math.nan}
    values = np.array(scores, dtype=np.float64)
    bins = reliability_table(labels, values)
    differences = (bins["mean_score"] - bins["share_of_positives"]).abs()
    return {
        "brier": float(brier_score_loss(labels, values, pos_label=1)),
        "ece": float(np.average(differences, weights=bins["count"])),
    }


def chance_error(scores: NDArray[np.floating]) -> float:
    """Return the expected calibration error that chance alone gives a perfectly calibrated model with these scores.

    With few samples the shares in the bins differ from the mean scores by chance, so the error is biased upwards; this
    is its bias. Labels are taken as independent, and the positives of a bin as binomial with the mean score.

    Args:
        scores: Probabilities of class 1 (N,), in [0, 1].

    Returns:
        The error, 0 for scores of 0 and 1 only; nan without samples or where a score is nan.

    Source:
        Mean absolute deviation of the binomial distribution: Diaconis and Zabell, Closed form summation for classical
        distributions, Statistical Science 6 (1991) 284-302, after de Moivre; bias: Bröcker, Estimating reliability and
        resolution of probability forecasts through decomposition of the empirical score, Climate Dynamics 39 (2012).
    """
    if len(scores) == 0 or np.isnan(scores).any():
        return math.nan
    bins = reliability_table(np.zeros(len(scores), dtype=np.int64), np.array(scores, dtype=np.float64))
    counts, share = bins["count"].to_numpy(), bins["mean_score"].to_numpy()
    above = np.floor(counts * share) + 1
    deviations = 2 * above * (1 - share) * binom.pmf(above, counts, share)
    return float(deviations.sum() / counts.sum())


def reliability_table(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> pd.DataFrame:
    """Return the mean score and the share of positives in each bin of scores.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,), in [0, 1].

    Returns:
        One row per non-empty bin, with ``RELIABILITY_COLUMNS``. The ten bins have equal width and include their upper
        edge: bin 0 ends at 0.1, bin 9 at 1.
    """
    bins = np.searchsorted(np.linspace(0.0, 1.0, NUM_BINS + 1)[1:-1], scores)
    counts = np.bincount(bins, minlength=NUM_BINS)
    filled = np.flatnonzero(counts)
    share, mean = calibration_curve(labels, scores, n_bins=NUM_BINS, pos_label=1) if len(labels) else ([], [])
    columns = (filled, mean, share, counts[filled])
    return pd.DataFrame(dict(zip(RELIABILITY_COLUMNS, columns, strict=True)))
