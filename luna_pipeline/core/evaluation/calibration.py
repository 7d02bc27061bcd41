"""Calibration errors of scores, and the table behind a reliability diagram."""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

NUM_BINS = 10
RELIABILITY_COLUMNS = ("bin", "mean_score", "share_of_positives", "count")


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
