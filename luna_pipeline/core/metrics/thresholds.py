"""Thresholds for calling a candidate positive, chosen on validation data only.

All functions take the true classes ``labels`` (N,), 0 or 1, and the ``scores`` (N,) of class 1. They return one of the
scores, from which on a sample is called positive; nan where a class is missing or a score is nan. They raise a
ValueError if the lengths differ or a label is neither 0 nor 1.
"""

import math

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.checks import check_number
from luna_pipeline.core.metrics.binary import checked_samples, has_both_classes
from luna_pipeline.core.metrics.curves import score_curve

FIXED_SENSITIVITY = 0.95


def youden_threshold(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """Return the threshold with the highest sensitivity + specificity; the highest one on ties.

    Source:
        Youden, Index for rating diagnostic tests, Cancer 3 (1950) 32-35.
    """
    labels, scores = checked_samples(labels, scores)
    if not has_both_classes(labels, scores):
        return math.nan
    curve = score_curve(labels, scores)
    return _highest_of_best(curve.thresholds, curve.sensitivities - curve.false_positive_rates)


def f1_threshold(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """Return the threshold with the highest F1; the highest one on ties."""
    labels, scores = checked_samples(labels, scores)
    if not has_both_classes(labels, scores):
        return math.nan
    curve = score_curve(labels, scores)
    num_called = curve.true_positives + curve.false_positives
    return _highest_of_best(curve.thresholds, 2 * curve.true_positives / (num_called + curve.true_positives[-1]))


def sensitivity_threshold(
    labels: NDArray[np.integer], scores: NDArray[np.floating], *, sensitivity: float = FIXED_SENSITIVITY
) -> float:
    """Return the highest threshold with at least the given sensitivity, in (0, 1]."""
    check_number("sensitivity", sensitivity, "(0, 1]")
    labels, scores = checked_samples(labels, scores)
    if not has_both_classes(labels, scores):
        return math.nan
    curve = score_curve(labels, scores)
    return float(curve.thresholds[np.argmax(curve.sensitivities >= sensitivity)])


def _highest_of_best(falling_thresholds: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    # Rounded, because mathematically equal values may differ in the last bit.
    return float(falling_thresholds[np.argmax(np.round(values, 12))])
