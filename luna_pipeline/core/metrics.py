"""Numbers of a binary classifier over all samples of a split; what is undefined is nan."""

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

DEFAULT_THRESHOLD = 0.5
METRIC_NAMES = ("auc", "average_precision", "sensitivity", "specificity", "precision", "f1", "accuracy")


def binary_metrics(
    labels: NDArray[np.integer], scores: NDArray[np.floating], *, threshold: float = 0.5
) -> dict[str, float]:
    """Return the metrics of scores against labels.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,).
        threshold: A score of at least this counts as class 1.

    Returns:
        A value for each of ``METRIC_NAMES``. A value without a meaning is nan: sensitivity without any sample
        of class 1, AUC with one class only, everything where a score is nan.

    Raises:
        ValueError: If the lengths differ or a label is neither 0 nor 1.
    """
    labels, scores = _checked(labels, scores)
    if len(labels) == 0 or np.isnan(scores).any():
        return dict.fromkeys(METRIC_NAMES, math.nan)
    matrix = confusion_matrix(labels, scores >= threshold, labels=[0, 1])
    true_negatives, false_positives, false_negatives, true_positives = (int(count) for count in matrix.ravel())
    num_positives = true_positives + false_negatives
    num_negatives = true_negatives + false_positives
    return {
        "auc": float(roc_auc_score(labels, scores)) if num_positives and num_negatives else math.nan,
        "average_precision": float(average_precision_score(labels, scores)) if num_positives else math.nan,
        "sensitivity": _ratio(true_positives, num_positives),
        "specificity": _ratio(true_negatives, num_negatives),
        "precision": _ratio(true_positives, true_positives + false_positives),
        "f1": _ratio(2 * true_positives, 2 * true_positives + false_positives + false_negatives),
        "accuracy": _ratio(true_positives + true_negatives, len(labels)),
    }


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
    labels, scores = _checked(labels, scores)
    if len(np.unique(labels)) < 2 or np.isnan(scores).any():
        return math.nan
    false_positive_rates, true_positive_rates, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    # The curve begins with an infinite threshold, at which nothing is found: no use as a decision.
    return float(thresholds[1:][np.argmax((true_positive_rates - false_positive_rates)[1:])])


def decision_threshold(labels: NDArray[np.integer], scores: NDArray[np.floating]) -> float:
    """Return ``youden_threshold``, or ``DEFAULT_THRESHOLD`` where there is none.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,).
    """
    threshold = youden_threshold(labels, scores)
    return DEFAULT_THRESHOLD if math.isnan(threshold) else threshold


def _checked(
    labels: NDArray[np.integer], scores: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    labels, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != values.shape:
        msg = f"Labels and scores must be two rows of one length, got {labels.shape} and {values.shape}."
        raise ValueError(f"{msg} Give a score for every sample.")
    if not np.isin(labels, (0, 1)).all():
        msg = f"Labels must be 0 or 1, got {np.unique(labels).tolist()}. Give 1 for nodules, 0 for others."
        raise ValueError(msg)
    return labels.astype(np.int64), values


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan
