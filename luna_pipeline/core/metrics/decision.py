"""What the validation part decided about a model's scores: what is called positive, and how probable it is."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.checks import check_choice
from luna_pipeline.core.metrics.binary import DEFAULT_THRESHOLD
from luna_pipeline.core.metrics.calibration import IsotonicCalibration, TemperatureCalibration
from luna_pipeline.core.metrics.thresholds import f1_threshold, sensitivity_threshold, youden_threshold

CalibrationMethod = Literal["temperature", "isotonic"]
# A temperature changes how sure a model is, not how common it takes nodules to be, and networks are trained in a ratio.
DEFAULT_METHOD: CalibrationMethod = "isotonic"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Decision:
    """Thresholds and calibration of one model; a score of at least a threshold is called positive.

    Attributes:
        threshold: Youden's.
        threshold_f1: That of the highest F1.
        threshold_sensitivity: The highest one that finds 95 % of the positives.
        temperature: See ``TemperatureCalibration``; nan where there is none.
        isotonic_scores: The knots of ``IsotonicCalibration``; empty where there is none.
        isotonic_probabilities: Their probabilities.
        num_validation_candidates: Candidates that decided; 0 where nothing was decided and the thresholds are 0.5.
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
        """Decide by the validation part.

        Args:
            labels: True classes (N,), 0 or 1.
            scores: Scores of class 1 (N,), in [0, 1].

        Returns:
            The decision; ``UNDECIDED`` where a class is missing or a score is nan.

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
        """Return one threshold for all purposes, without a calibration."""
        return cls(threshold=threshold, threshold_f1=threshold, threshold_sensitivity=threshold)

    def calibrated(
        self, scores: NDArray[np.floating], method: CalibrationMethod = DEFAULT_METHOD
    ) -> NDArray[np.float64]:
        """Return calibrated probabilities (N,) of scores (N,) in [0, 1]; nan where there is no calibration.

        Raises:
            ValueError: If there is no such method.
        """
        check_choice("method", method, ("temperature", "isotonic"))
        if method == "isotonic" and self.isotonic_scores:
            return IsotonicCalibration(self.isotonic_scores, self.isotonic_probabilities).apply(scores)
        if method == "temperature" and not math.isnan(self.temperature):
            return TemperatureCalibration(self.temperature).apply(scores)
        return np.full(np.shape(scores), np.nan)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold: None for a temperature that there is not, lists for tuples."""
        return {
            **asdict(self),
            "temperature": None if math.isnan(self.temperature) else self.temperature,
            "isotonic_scores": list(self.isotonic_scores),
            "isotonic_probabilities": list(self.isotonic_probabilities),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Decision":
        """Read what ``to_dict`` gave.

        Raises:
            ValueError: If a value is missing or unknown.
        """
        expected = {entry.name for entry in fields(cls)}
        if set(values) != expected:
            msg = f"A decision must hold {sorted(expected)}, got {sorted(values)}. Use the version that wrote it."
            raise ValueError(msg)
        return cls(
            **{
                **values,
                "temperature": math.nan if values["temperature"] is None else values["temperature"],
                "isotonic_scores": tuple(values["isotonic_scores"]),
                "isotonic_probabilities": tuple(values["isotonic_probabilities"]),
            }
        )

    def __eq__(self, other: object) -> bool:
        # Two without a temperature are equal, though nan is equal to nothing.
        return isinstance(other, Decision) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.threshold, self.num_validation_candidates))


UNDECIDED = Decision()
