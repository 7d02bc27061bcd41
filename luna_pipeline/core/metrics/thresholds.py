"""From which score on a candidate is called positive; chosen on the validation part, never on what is tested."""

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from luna_pipeline.core.config.checks import check_number
from luna_pipeline.core.metrics.binary import checked_samples, has_both_classes

FIXED_SENSITIVITY = 0.95


def youden_threshold(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """Return the score from which on sensitivity + specificity is largest; of several the highest.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,).

    Returns:
        One of ``scores``; nan where a class is missing or a score is nan.

    Raises:
        ValueError: If the lengths differ or a label is neither 0 nor 1.

    Source:
        Youden, Index for rating diagnostic tests, Cancer 3 (1950) 32-35.
    """
    labels, scores = checked_samples(labels, scores)
    if not has_both_classes(labels, scores):
        return math.nan
    false_positive_rates, true_positive_rates, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    # The curve begins with an infinite threshold, at which nothing is found: no use as a decision.
    return _highest_of_best(thresholds[1:], (true_positive_rates - false_positive_rates)[1:])


def f1_threshold(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """Return the score from which on F1 is largest; of several the highest.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,).

    Returns:
        One of ``scores``; nan where a class is missing or a score is nan.

    Raises:
        ValueError: If the lengths differ or a label is neither 0 nor 1.
    """
    labels, scores = checked_samples(labels, scores)
    if not has_both_classes(labels, scores):
        return math.nan
    # The curve rises with the threshold and ends with a point that has none.
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return _highest_of_best(thresholds[::-1], f1[:-1][::-1])


def sensitivity_threshold(
    labels: NDArray[np.integer], scores: NDArray[np.floating], *, sensitivity: float = FIXED_SENSITIVITY
) -> float:
    """Return the highest score from which on at least this share of the positives is found.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,).
        sensitivity: The share, above 0.

    Returns:
        One of ``scores``; nan where a class is missing or a score is nan.

    Raises:
        ValueError: If the lengths differ, a label is neither 0 nor 1, or the share lies outside (0, 1].
    """
    check_number("sensitivity", sensitivity, "(0, 1]")
    labels, scores = checked_samples(labels, scores)
    if not has_both_classes(labels, scores):
        return math.nan
    _, true_positive_rates, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    return float(thresholds[np.argmax(true_positive_rates >= sensitivity)])


def _highest_of_best(falling_thresholds: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    # Values that are equal on paper may differ in their last bit, by which none is the better one.
    return float(falling_thresholds[np.argmax(np.round(values, 12))])
