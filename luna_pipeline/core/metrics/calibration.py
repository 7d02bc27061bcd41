"""Calibration of scores into probabilities, fitted on validation data only."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from luna_pipeline.core.config.checks import check_number
from luna_pipeline.core.metrics.binary import checked_samples, has_both_classes

# A score of 0 or 1 has no finite log odds.
LEAST_SCORE = 1e-7
TEMPERATURES = (0.05, 20.0)
# A slope above 0 keeps the order of the scores, also of scores that are inverted on the validation part.
LEAST_SLOPE = 1e-3


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
        """Fit the temperature with the lowest log loss against ``platt_targets``, in [0.05, 20].

        Against labels of 0 and 1, scores that separate the classes would get a temperature of 0: certainty from a few
        samples. The upper limit applies to scores that are inverted.

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
        log_odds, targets = _log_odds(scores), platt_targets(labels)
        from scipy.optimize import minimize_scalar

        optimum = minimize_scalar(
            lambda log_temperature: _log_loss(targets, log_odds / math.exp(log_temperature)),
            bounds=(math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1])),
            method="bounded",
            options={"xatol": 1e-6},
        )
        return cls(math.exp(float(optimum.x)))

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probabilities (N,) of scores (N,) in [0, 1]."""
        return np.asarray(expit(_log_odds(np.asarray(scores, dtype=np.float64)) / self.temperature), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class PlattCalibration:
    """Platt scaling: logistic regression on the log odds of the scores.

    The order of the scores is kept, and so are AUC and FROC. Unlike a temperature, the intercept corrects the ratio of
    the classes in training batches.

    Attributes:
        slope: Factor of the log odds, above 0.
        intercept: Log odds of the probability of a score of 0.5.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        check_number("slope", self.slope, "(0, inf)")
        check_number("intercept", self.intercept, "(-inf, inf)")

    @classmethod
    def fit(cls, labels: NDArray[np.integer], scores: NDArray[np.floating]) -> "PlattCalibration | None":
        """Fit slope and intercept by the log loss against ``platt_targets``; arguments and None as of a temperature.

        Source:
            Platt, Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods,
            Advances in Large Margin Classifiers, 1999.
        """
        labels, scores = checked_samples(labels, scores)
        if not has_both_classes(labels, scores):
            return None
        log_odds, targets = _log_odds(scores), platt_targets(labels)

        def loss_and_gradient(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            fitted = line[0] * log_odds + line[1]
            residuals = expit(fitted) - targets
            return _log_loss(targets, fitted), np.array([(residuals * log_odds).mean(), residuals.mean()])

        bounds = [(LEAST_SLOPE, None), (None, None)]
        from scipy.optimize import minimize

        optimum = minimize(loss_and_gradient, [1.0, 0.0], jac=True, bounds=bounds, method="L-BFGS-B", tol=1e-10)
        return cls(float(optimum.x[0]), float(optimum.x[1]))

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probabilities (N,) of scores (N,) in [0, 1]."""
        log_odds = _log_odds(np.asarray(scores, dtype=np.float64))
        return np.asarray(expit(self.slope * log_odds + self.intercept), dtype=np.float64)


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

        Probabilities are limited to ``platt_targets``: no share of a few samples is a certainty of 0 or 1.

        Source:
            Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates, KDD 2002.
        """
        labels, scores = checked_samples(labels, scores)
        if not has_both_classes(labels, scores):
            return None
        targets = platt_targets(labels)
        # Importing sklearn takes a second, and only a calibration needs it.
        from sklearn.isotonic import IsotonicRegression

        regression = IsotonicRegression(y_min=targets.min(), y_max=targets.max(), out_of_bounds="clip")
        fitted = regression.fit(scores, labels)
        return cls(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probabilities (N,) of scores (N,)."""
        return np.asarray(np.interp(scores, self.scores, self.probabilities), dtype=np.float64)


def platt_targets(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return Platt's targets (N,): (P + 1) / (P + 2) for the P positives, 1 / (M + 2) for the M others.

    They are the means of the label's distribution after P (or M) samples under a uniform prior, see
    ``PlattCalibration.fit``.
    """
    num_positives = int(labels.sum())
    num_others = len(labels) - num_positives
    return np.where(labels == 1, (num_positives + 1) / (num_positives + 2), 1 / (num_others + 2))


def _log_loss(targets: NDArray[np.float64], log_odds: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0.0, log_odds) - targets * log_odds).mean())


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(scores, LEAST_SCORE, 1.0 - LEAST_SCORE)), dtype=np.float64)
