"""Metrics of a binary classifier over all samples of a split. Undefined values are nan."""

import math

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.metrics.curves import score_curve

DEFAULT_THRESHOLD = 0.5
RATE_NAMES = ("sensitivity", "specificity", "precision", "f1", "accuracy")
METRIC_NAMES = ("auc", "average_precision", *RATE_NAMES)
DECISION_METRIC_NAMES = ("true_positives", "false_positives", "true_negatives", "false_negatives", *RATE_NAMES)


def binary_metrics(
    labels: NDArray[np.integer], scores: NDArray[np.floating], *, threshold: float = DEFAULT_THRESHOLD
) -> dict[str, float]:
    """Return the metrics of scores against labels.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,).
        threshold: A score of at least this value is called class 1.

    Returns:
        A value for each of ``METRIC_NAMES``. Undefined values are nan: sensitivity without a sample of class 1,
        AUC with one class only, everything where a score is nan.

    Raises:
        ValueError: If the lengths differ or a label is neither 0 nor 1.
    """
    labels, scores = checked_samples(labels, scores)
    if len(labels) == 0 or np.isnan(scores).any():
        return dict.fromkeys(METRIC_NAMES, math.nan)
    decided = decision_metrics(labels, scores >= threshold)
    return {
        "auc": area_under_curve(labels, scores),
        "average_precision": score_curve(labels, scores).average_precision if labels.any() else math.nan,
        **{name: decided[name] for name in RATE_NAMES},
    }


def decision_metrics(labels: NDArray[np.integer], is_called: NDArray[np.bool_]) -> dict[str, float]:
    """Return the metrics of binary decisions, regardless of how they were made.

    Args:
        labels: True classes (N,), 0 or 1.
        is_called: Whether each sample is called class 1 (N,).

    Returns:
        A value for each of ``DECISION_METRIC_NAMES``. Undefined values are nan.
    """
    counts = np.bincount(2 * np.asarray(labels, dtype=np.int64) + is_called, minlength=4)
    true_negatives, false_positives, false_negatives, true_positives = (int(count) for count in counts)
    return {
        "true_positives": true_positives,
        "false_positives": false_positives,
        "true_negatives": true_negatives,
        "false_negatives": false_negatives,
        "sensitivity": _ratio(true_positives, true_positives + false_negatives),
        "specificity": _ratio(true_negatives, true_negatives + false_positives),
        "precision": _ratio(true_positives, true_positives + false_positives),
        "f1": _ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives),
        "accuracy": _ratio(true_positives + true_negatives, len(labels)),
    }


def area_under_curve(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """Return the area under the ROC curve: the share of pairs of both classes in their right order, equal ones half.

    Labels and scores are those of `binary_metrics`; nan where a class is missing or a score is nan.

    Source:
        Hanley and McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747.
    """
    labels, scores = checked_samples(labels, scores)
    return score_curve(labels, scores).area if has_both_classes(labels, scores) else math.nan


def sensitivity_at_specificity(
    labels: NDArray[np.integer], scores: NDArray[np.floating], *, specificity: float
) -> float:
    """Return the highest sensitivity of a threshold with at least the given specificity.

    Labels and scores are those of `binary_metrics`; nan where a class is missing or a score is nan.
    """
    labels, scores = checked_samples(labels, scores)
    if not has_both_classes(labels, scores):
        return math.nan
    curve = score_curve(labels, scores)
    # Above all scores nothing is found.
    return float(curve.sensitivities[1.0 - curve.false_positive_rates >= specificity].max(initial=0.0))


def has_both_classes(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> bool:
    """Return whether both classes occur and no score is nan."""
    return len(np.unique(labels)) == 2 and not bool(np.isnan(scores).any())


def checked_samples(
    labels: NDArray[np.integer], scores: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Check labels and scores of a report, a calibration or LUNA25's score; return int64 and float64 (N,).

    Raises:
        ValueError: If the lengths differ or a label is neither 0 nor 1.
    """
    labels, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != values.shape:
        msg = f"Labels and scores must be two rows of one length, got {labels.shape} and {values.shape}."
        raise ValueError(f"{msg} Give a score for every sample.")
    if not np.isin(labels, (0, 1)).all():
        msg = f"Labels must be 0 or 1, got {np.unique(labels).tolist()}. Give 1 for nodules and 0 for "
        msg += "others in the column `class` of your table, or in the array that your program passes."
        raise ValueError(msg)
    return labels.astype(np.int64), values


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
