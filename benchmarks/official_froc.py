"""The official script's way from matched samples to the FROC curve, by scikit-learn's ``roc_curve`` as there."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_curve

from luna_pipeline.core.evaluation.froc import FrocCurve


def froc_curve(
    probability: NDArray[np.floating],
    is_nodule: NDArray[np.bool_],
    is_missed: NDArray[np.bool_],
    *,
    num_scans: int,
) -> FrocCurve:
    """Return the FROC curve of matched samples.

    Args:
        probability: Scores of found nodules and false positives, finite (N,); those of missed nodules are ignored.
        is_nodule: Nodules, found or missed (N,).
        is_missed: Nodules that no mark has found (N,); they count in the denominator only.
        num_scans: Number of scans.

    Returns:
        The curve; one point of nan where nothing has a score.

    Source:
        ``computeFROC`` of the official script, with scikit-learn's ``roc_curve`` as there.
    """
    is_nodule, is_scored = np.asarray(is_nodule, dtype=bool), ~np.asarray(is_missed, dtype=bool)
    labels, scores = is_nodule[is_scored].astype(np.int64), np.asarray(probability, dtype=np.float64)[is_scored]
    if len(scores) == 0:
        nothing = np.array([np.nan])
        return FrocCurve(np.zeros(1), nothing, nothing, int(is_nodule.sum()))
    with warnings.catch_warnings():
        # One class alone makes a rate nan.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        false_positive_rate, true_positive_rate, threshold = roc_curve(labels, scores)
    num_found, num_nodules = float(labels.sum()), float(is_nodule.sum())
    num_false = len(labels) - num_found
    fps_per_scan = false_positive_rate * num_false / num_scans if num_false else np.zeros(len(threshold))
    with np.errstate(invalid="ignore"):
        sensitivity = true_positive_rate * num_found / num_nodules if num_nodules else np.full(len(threshold), np.nan)
    threshold = np.where(np.isinf(threshold), scores.max() + 1, threshold)
    return FrocCurve(np.asarray(fps_per_scan), np.asarray(sensitivity), threshold, int(num_nodules))
