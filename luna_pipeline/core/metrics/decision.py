"""Thresholds and calibration of a model, chosen on its validation part."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.checks import check_choice, check_integer, check_number
from luna_pipeline.core.metrics.binary import DEFAULT_THRESHOLD
from luna_pipeline.core.metrics.calibration import IsotonicCalibration, TemperatureCalibration
from luna_pipeline.core.metrics.thresholds import f1_threshold, sensitivity_threshold, youden_threshold

CalibrationMethod = Literal["temperature", "isotonic"]
# A temperature does not correct the class ratio of the training batches; isotonic regression does.
DEFAULT_METHOD: CalibrationMethod = "isotonic"
_KNOTS = ("isotonic_scores", "isotonic_probabilities")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Decision:
    """Thresholds and calibration of one model; a score of at least a threshold is called positive.

    Attributes:
        threshold: Threshold with the highest Youden index.
        threshold_f1: Threshold with the highest F1.
        threshold_sensitivity: Highest threshold with a sensitivity of at least 0.95.
        temperature: See ``TemperatureCalibration``; nan without a calibration.
        isotonic_scores: Scores of the knots of ``IsotonicCalibration``; empty without a calibration.
        isotonic_probabilities: Probabilities of the knots.
        num_validation_candidates: Candidates of the validation part; 0 for default or given thresholds.
    """

    threshold: float = DEFAULT_THRESHOLD
    threshold_f1: float = DEFAULT_THRESHOLD
    threshold_sensitivity: float = DEFAULT_THRESHOLD
    temperature: float = math.nan
    isotonic_scores: tuple[float, ...] = ()
    isotonic_probabilities: tuple[float, ...] = ()
    num_validation_candidates: int = 0

    @classmethod
    def of(cls, labels: NDArray[np.integer], scores: NDArray[np.floating]) -> "Decision":
        """Choose thresholds and calibration on the validation part.

        Args:
            labels: True classes (N,), 0 or 1.
            scores: Scores of class 1 (N,), in [0, 1].

        Returns:
            The decision; ``UNDECIDED`` (thresholds 0.5, no calibration) where a class is missing or a score is nan.

        Raises:
            ValueError: If the lengths differ or a label is neither 0 nor 1.
        """
        threshold = youden_threshold(labels, scores)
        temperature = TemperatureCalibration.fit(labels, scores)
        isotonic = IsotonicCalibration.fit(labels, scores)
        if math.isnan(threshold) or temperature is None or isotonic is None:
            return UNDECIDED
        return cls(
            threshold=threshold,
            threshold_f1=f1_threshold(labels, scores),
            threshold_sensitivity=sensitivity_threshold(labels, scores),
            temperature=temperature.temperature,
            isotonic_scores=isotonic.scores,
            isotonic_probabilities=isotonic.probabilities,
            num_validation_candidates=len(labels),
        )

    @classmethod
    def at(cls, threshold: float) -> "Decision":
        """Return a decision with one threshold for all purposes and no calibration."""
        return cls(threshold=threshold, threshold_f1=threshold, threshold_sensitivity=threshold)

    def calibrated(
        self, scores: NDArray[np.floating], method: CalibrationMethod = DEFAULT_METHOD
    ) -> NDArray[np.float64]:
        """Return calibrated probabilities (N,) of scores (N,) in [0, 1]; nan without a calibration.

        Raises:
            ValueError: If the method is unknown.
        """
        check_choice("method", method, ("temperature", "isotonic"))
        if method == "isotonic" and self.isotonic_scores:
            return IsotonicCalibration(self.isotonic_scores, self.isotonic_probabilities).apply(scores)
        if method == "temperature" and not math.isnan(self.temperature):
            return TemperatureCalibration(self.temperature).apply(scores)
        return np.full(np.shape(scores), np.nan)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values: None instead of a nan temperature, lists instead of tuples."""
        knots = {name: list(getattr(self, name)) for name in _KNOTS}
        return {**asdict(self), **knots, "temperature": None if math.isnan(self.temperature) else self.temperature}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Decision":
        """Create a decision from the values of ``to_dict``.

        Raises:
            ValueError: If a value is missing or unknown, or outside its range.
            TypeError: If a value is of the wrong kind.
        """
        expected = {field.name for field in fields(cls)}
        if set(values) != expected:
            msg = f"A decision must hold {sorted(expected)}, got {sorted(values)}. Use the version that wrote it."
            raise ValueError(msg)
        for name in ("threshold", "threshold_f1", "threshold_sensitivity"):
            check_number(name, values[name], "[0, 1]")
        if values["temperature"] is not None:
            check_number("temperature", values["temperature"], "(0, inf)")
        check_integer("num_validation_candidates", values["num_validation_candidates"], at_least=0)
        temperature = math.nan if values["temperature"] is None else values["temperature"]
        return cls(**{**values, **_checked_knots(values), "temperature": temperature})

    def __eq__(self, other: object) -> bool:
        # to_dict replaces a nan temperature, which would equal nothing.
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
