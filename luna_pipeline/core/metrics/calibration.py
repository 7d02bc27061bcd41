"""Scores made into probabilities that hold; fitted on the validation part, never on what is tested."""

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
    """Scores whose log odds are divided by one number: above 1 it takes back certainty, below 1 it adds some.

    The order of the scores stays, and so do AUC and FROC. A score of one half stays one half: a network that was
    trained on as many nodules as others keeps their share in all its scores, which isotonic calibration corrects and
    this does not.

    Attributes:
        temperature: The number, above 0.
    """

    temperature: float

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, "(0, inf)")

    @classmethod
    def fit(cls, labels: NDArray[np.integer], scores: NDArray[np.floating]) -> "TemperatureCalibration | None":
        """Choose the temperature with the least log loss, from 0.05 to 20.

        Scores that part the classes without a mistake would have the temperature 0, and scores that are upside down an
        endless one: they get the ends of the range.

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
        # The log odds of what is the case: positive where the score is on its side.
        right = np.where(labels == 1, 1.0, -1.0) * _log_odds(scores)
        found = minimize_scalar(
            lambda log_temperature: float(np.logaddexp(0.0, -right / math.exp(log_temperature)).mean()),
            bounds=(math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1])),
            method="bounded",
            options={"xatol": 1e-6},
        )
        return cls(math.exp(float(found.x)))

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probabilities (N,) of scores (N,) in [0, 1]."""
        return np.asarray(expit(_log_odds(np.asarray(scores, dtype=np.float64)) / self.temperature), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class IsotonicCalibration:
    """Scores mapped by a line through knots that never falls; outside of them it is constant.

    Scores may become equal, so that AUC and FROC are those of the scores as they were.

    Attributes:
        scores: The knots' scores, rising.
        probabilities: Their probabilities, never falling.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.scores or len(self.scores) != len(self.probabilities):
            msg = f"Knots must be pairs, got {len(self.scores)} scores and {len(self.probabilities)} probabilities."
            raise ValueError(f"{msg} Fit the calibration again.")

    @classmethod
    def fit(cls, labels: NDArray[np.integer], scores: NDArray[np.floating]) -> "IsotonicCalibration | None":
        """Choose the line with the least squared error.

        Args:
            labels: True classes (N,), 0 or 1, of the validation part.
            scores: Scores of class 1 (N,).

        Returns:
            The calibration; None where a class is missing or a score is nan.

        Source:
            Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates, KDD 2002.
        """
        labels, scores = checked_samples(labels, scores)
        if not has_both_classes(labels, scores):
            return None
        line = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, labels)
        return cls(tuple(line.X_thresholds_.tolist()), tuple(line.y_thresholds_.tolist()))

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probabilities (N,) of scores (N,)."""
        return np.asarray(np.interp(scores, self.scores, self.probabilities), dtype=np.float64)


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(scores, LEAST_SCORE, 1.0 - LEAST_SCORE)), dtype=np.float64)
