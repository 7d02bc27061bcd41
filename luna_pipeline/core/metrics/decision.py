"""Thresholds and calibration of a model, chosen on its validation part."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.checks import check_choice, check_integer, check_number
from luna_pipeline.core.metrics.binary import DEFAULT_THRESHOLD
from luna_pipeline.core.metrics.calibration import IsotonicCalibration, PlattCalibration, TemperatureCalibration
from luna_pipeline.core.metrics.calibration_choice import METHODS, CalibrationMethod, choose_method
from luna_pipeline.core.metrics.thresholds import f1_threshold, sensitivity_threshold, youden_threshold

_KNOTS = ("isotonic_scores", "isotonic_probabilities")
_NUMBERS_OR_NAN = {"temperature": "(0, inf)", "platt_slope": "(0, inf)", "platt_intercept": "(-inf, inf)"}
# Decisions of earlier versions lack these values and are calibrated by isotonic regression.
_ADDED = {"method": "isotonic", "platt_slope": None, "platt_intercept": None}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Decision:
    """Thresholds and calibration of one model; a score of at least a threshold is called positive.

    Attributes:
        threshold: Threshold with the highest Youden index.
        threshold_f1: Threshold with the highest F1.
        threshold_sensitivity: Highest threshold with a sensitivity of at least 0.95.
        method: The calibration that was chosen, see ``choose_method``.
        temperature: See ``TemperatureCalibration``; nan without a calibration.
        platt_slope: See ``PlattCalibration``; nan without a calibration.
        platt_intercept: See ``PlattCalibration``; nan without a calibration.
        isotonic_scores: Scores of the knots of ``IsotonicCalibration``; empty without a calibration.
        isotonic_probabilities: Probabilities of the knots.
        num_validation_candidates: Candidates of the validation part; 0 for default or given thresholds.
    """

    threshold: float = DEFAULT_THRESHOLD
    threshold_f1: float = DEFAULT_THRESHOLD
    threshold_sensitivity: float = DEFAULT_THRESHOLD
    method: CalibrationMethod = "isotonic"
    temperature: float = math.nan
    platt_slope: float = math.nan
    platt_intercept: float = math.nan
    isotonic_scores: tuple[float, ...] = ()
    isotonic_probabilities: tuple[float, ...] = ()
    num_validation_candidates: int = 0

    @classmethod
    def of(
        cls, labels: NDArray[np.integer], scores: NDArray[np.floating], groups: NDArray[Any] | None = None
    ) -> "Decision":
        """Choose thresholds and calibration on the validation part.

        Args:
            labels: True classes (N,), 0 or 1.
            scores: Scores of class 1 (N,), in [0, 1].
            groups: Series of each sample (N,), see ``choose_method``.

        Returns:
            The decision; ``UNDECIDED`` (thresholds 0.5, no calibration) where a class is missing or a score is nan.

        Raises:
            ValueError: If the lengths differ or a label is neither 0 nor 1.
        """
        threshold = youden_threshold(labels, scores)
        temperature = TemperatureCalibration.fit(labels, scores)
        platt = PlattCalibration.fit(labels, scores)
        isotonic = IsotonicCalibration.fit(labels, scores)
        if temperature is None or platt is None or isotonic is None:
            return UNDECIDED
        return cls(
            threshold=threshold,
            threshold_f1=f1_threshold(labels, scores),
            threshold_sensitivity=sensitivity_threshold(labels, scores),
            method=choose_method(labels, scores, groups),
            temperature=temperature.temperature,
            platt_slope=platt.slope,
            platt_intercept=platt.intercept,
            isotonic_scores=isotonic.scores,
            isotonic_probabilities=isotonic.probabilities,
            num_validation_candidates=len(labels),
        )

    @classmethod
    def at(cls, threshold: float) -> "Decision":
        """Return a decision with one threshold for all purposes and no calibration."""
        return cls(threshold=threshold, threshold_f1=threshold, threshold_sensitivity=threshold)

    @property
    def is_calibrated(self) -> bool:
        """Whether the chosen calibration has been fitted."""
        return self._calibration(self.method) is not None

    def calibrated(self, scores: NDArray[np.floating], method: CalibrationMethod | None = None) -> NDArray[np.float64]:
        """Return calibrated probabilities (N,) of scores (N,) in [0, 1]; nan without a calibration.

        Args:
            scores: Scores of class 1 (N,), in [0, 1].
            method: Another method than the chosen one.

        Raises:
            ValueError: If the method is unknown.
        """
        calibration = self._calibration(method or self.method)
        return np.full(np.shape(scores), np.nan) if calibration is None else calibration.apply(scores)

    def _calibration(
        self, method: CalibrationMethod
    ) -> TemperatureCalibration | PlattCalibration | IsotonicCalibration | None:
        check_choice("method", method, tuple(METHODS))
        if method == "isotonic":
            knots = (self.isotonic_scores, self.isotonic_probabilities)
            return IsotonicCalibration(*knots) if self.isotonic_scores else None
        if method == "platt":
            line = (self.platt_slope, self.platt_intercept)
            return None if any(map(math.isnan, line)) else PlattCalibration(*line)
        return None if math.isnan(self.temperature) else TemperatureCalibration(self.temperature)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values: None instead of nan, lists instead of tuples."""
        knots = {name: list(getattr(self, name)) for name in _KNOTS}
        values = {**asdict(self), **knots}
        return values | {name: None for name in _NUMBERS_OR_NAN if math.isnan(values[name])}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Decision":
        """Create a decision from the values of ``to_dict``, also of versions without a choice of the calibration.

        Raises:
            ValueError: If a value is missing or unknown, or outside its range.
            TypeError: If a value is of the wrong kind.
        """
        values = {**_ADDED, **values}
        expected = {field.name for field in fields(cls)}
        if set(values) != expected:
            msg = f"A decision must hold {sorted(expected)}, got {sorted(values)}. Use the version that wrote it."
            raise ValueError(msg)
        for name in ("threshold", "threshold_f1", "threshold_sensitivity"):
            check_number(name, values[name], "[0, 1]")
        check_choice("method", values["method"], tuple(METHODS))
        for name, interval in _NUMBERS_OR_NAN.items():
            if values[name] is not None:
                check_number(name, values[name], interval)
        check_integer("num_validation_candidates", values["num_validation_candidates"], at_least=0)
        numbers = {name: math.nan if values[name] is None else values[name] for name in _NUMBERS_OR_NAN}
        return cls(**{**values, **_checked_knots(values), **numbers})

    def __eq__(self, other: object) -> bool:
        # to_dict replaces nan, which would equal nothing.
        return isinstance(other, Decision) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.threshold, self.num_validation_candidates))


def _checked_knots(values: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the knots of the isotonic calibration; knots that do not rise are a ValueError."""
    for name in _KNOTS:
        if not isinstance(values[name], list | tuple):
            raise TypeError(f"{name} must be a list of numbers, got {values[name]!r:.80}. Use another checkpoint.")
    knots = {name: tuple(values[name]) for name in _KNOTS}
    for name, numbers in knots.items():
        for number in numbers:
            check_number(name, number, "[0, 1]")
        if any(second < first for first, second in pairwise(numbers)):
            msg = f"{name} must not fall, got {numbers[:3]} and {max(len(numbers) - 3, 0)} more."
            raise ValueError(f"{msg} Train again, or use another checkpoint.")
    if len({len(numbers) for numbers in knots.values()}) > 1:
        counts = " and ".join(str(len(numbers)) for numbers in knots.values())
        raise ValueError(f"Knots must be pairs, got {counts} numbers. Train again, or use another checkpoint.")
    return knots


UNDECIDED = Decision()
