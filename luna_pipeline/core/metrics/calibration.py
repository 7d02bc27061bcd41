"""Calibration of scores into probabilities, fitted on validation data only."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from luna_pipeline.core.config.checks import check_number
from luna_pipeline.core.metrics.binary import checked_samples, has_both_classes

# A score of 0 or 1 has no finite log odds.
LEAST_SCORE = 1e-7
TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class TemperatureCalibration:
    """Temperature scaling: divides the log odds of the scores by one number.

    The order of the scores is kept, and so are AUC and FROC. A score of 0.5 stays 0.5. A network trained on balanced
    classes therefore still overestimates rare nodules; isotonic calibration corrects that.

    Attributes:
        temperature: Divisor above 0; above 1 it moves scores towards 0.5, below 1 away from it.
    """

    temperature: float

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, "(0, inf)")

    @classmethod
    def fit(cls, labels: NDArray[np.integer], scores: NDArray[np.floating]) -> "TemperatureCalibration | None":
        """Fit the temperature with the lowest log loss in [0.05, 20].

        The limits apply to scores that separate the classes perfectly (optimum 0) or are inverted (no optimum).

        Args:
            labels: True classes (N,), 0 or 1, of the validation part.
            scores: Scores of class 1 (N,).

        Returns:
            The calibration; None where a class is missing or a score is nan.

        Source:
            Guo et al., On calibration of modern neural networks, ICML 2017.
        """
        labels, scores = checked_samples(labels, scores)
        if not has_both_classes(labels, scores):
            return None
        # Log odds of the true class.
        true_log_odds = np.where(labels == 1, 1.0, -1.0) * _log_odds(scores)
        optimum = minimize_scalar(
            lambda log_temperature: float(np.logaddexp(0.0, -true_log_odds / math.exp(log_temperature)).mean()),
            bounds=(math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1])),
            method="bounded",
            options={"xatol": 1e-6},
        )
        return cls(math.exp(float(optimum.x)))

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probabilities (N,) of scores (N,) in [0, 1]."""
        return np.asarray(expit(_log_odds(np.asarray(scores, dtype=np.float64)) / self.temperature), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class IsotonicCalibration:
    """Isotonic regression: maps scores by linear interpolation between knots, constant outside of them.

    Different scores may get the same probability: compute AUC and FROC from the uncalibrated scores.

    Attributes:
        scores: Scores of the knots, increasing.
        probabilities: Probabilities of the knots, non-decreasing.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.scores or len(self.scores) != len(self.probabilities):
            msg = f"Knots must be pairs, got {len(self.scores)} scores and {len(self.probabilities)} probabilities."
            raise ValueError(f"{msg} Fit the calibration again.")

    @classmethod
    def fit(cls, labels: NDArray[np.integer], scores: NDArray[np.floating]) -> "IsotonicCalibration | None":
        """Fit by least squares; arguments and None as in ``TemperatureCalibration.fit``.

        Source:
            Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates, KDD 2002.
        """
        labels, scores = checked_samples(labels, scores)
        if not has_both_classes(labels, scores):
            return None
        fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, labels)
        return cls(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probabilities (N,) of scores (N,)."""
        return np.asarray(np.interp(scores, self.scores, self.probabilities), dtype=np.float64)


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(scores, LEAST_SCORE, 1.0 - LEAST_SCORE)), dtype=np.float64)
