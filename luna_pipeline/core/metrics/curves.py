"""Counts of true and false positives at each threshold: the points of the ROC and the precision-recall curve.

Equal to sklearn's curves, whose import takes more than a second in each process that loads a network.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """Counts of the samples whose score is at least a threshold.

    Attributes:
        thresholds: The distinct scores (K,), in falling order.
        true_positives: Number of such samples of class 1 (K,).
        false_positives: Number of such samples of class 0 (K,).
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]

    @property
    def sensitivities(self) -> NDArray[np.float64]:
        """Share of class 1 that is found (K,); needs a sample of class 1."""
        return np.asarray(self.true_positives / self.true_positives[-1], dtype=np.float64)

    @property
    def false_positive_rates(self) -> NDArray[np.float64]:
        """Share of class 0 that is called class 1 (K,); needs a sample of class 0."""
        return np.asarray(self.false_positives / self.false_positives[-1], dtype=np.float64)

    @property
    def area(self) -> float:
        """Area under the ROC curve, by trapezoids."""
        return float(np.trapezoid(np.append(0.0, self.sensitivities), np.append(0.0, self.false_positive_rates)))

    @property
    def average_precision(self) -> float:
        """Mean of the precisions, each weighted by the increase of the sensitivity; not interpolated."""
        precisions = self.true_positives / (self.true_positives + self.false_positives)
        return float(np.sum(np.diff(self.sensitivities, prepend=0.0) * precisions))


def score_curve(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> ScoreCurve:
    """Return the curve of at least one sample.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,), none of them nan.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last_of_equal = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    true_positives = np.cumsum(labels[order])[last_of_equal]
    return ScoreCurve(falling[last_of_equal], true_positives, 1 + last_of_equal - true_positives)
