"""Choice of the calibration method by cross-validation within the validation part."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.metrics.binary import checked_samples
from luna_pipeline.core.metrics.calibration import (
    LEAST_SCORE,
    IsotonicCalibration,
    PlattCalibration,
    TemperatureCalibration,
)

CalibrationMethod = Literal["temperature", "platt", "isotonic"]
# Simplest first: one number, two numbers, a step for each change of the share.
METHODS: dict[CalibrationMethod, Any] = {
    "temperature": TemperatureCalibration,
    "platt": PlattCalibration,
    "isotonic": IsotonicCalibration,
}
SIMPLEST: CalibrationMethod = "temperature"
NUM_FOLDS = 5
SEED = 0


def choose_method(
    labels: NDArray[np.integer], scores: NDArray[np.floating], groups: NDArray[Any] | None = None
) -> CalibrationMethod:
    """Return the simplest method whose log loss on held-out samples is about the lowest.

    Each method is fitted on four of five parts of the samples and scored on the fifth. A simpler method is preferred to
    the best one where its mean log loss is higher by at most one standard error of the paired differences. Log loss is
    a proper score: unlike the expected calibration error, it is lowest for the true probabilities and needs no bins.

    Args:
        labels: True classes (N,), 0 or 1.
        scores: Scores of class 1 (N,), in [0, 1].
        groups: Series of each sample (N,); a series is in one part only. None divides the samples freely.

    Returns:
        A key of ``METHODS``; the simplest where the samples of a class, or their series, are too few to be divided.

    Source:
        Breiman et al., Classification and regression trees, 1984, section 3.4.3 (rule of one standard error).
    """
    labels, scores = checked_samples(labels, scores)
    losses = _held_out_losses(labels, scores, groups)
    best = min(losses.values(), key=lambda values: float(values.mean()), default=np.empty(0))
    for method, values in losses.items():
        excess = values - best
        if excess.mean() <= excess.std() / np.sqrt(len(excess)):
            return method
    return SIMPLEST


def _held_out_losses(
    labels: NDArray[np.int64], scores: NDArray[np.float64], groups: NDArray[Any] | None
) -> dict[CalibrationMethod, NDArray[np.float64]]:
    """Return the log loss of each held-out sample by method; none where no part can be held out."""
    losses: dict[CalibrationMethod, list[NDArray[np.float64]]] = {method: [] for method in METHODS}
    for training, held_out in _parts(labels, groups):
        # A part that holds all samples of a class cannot be scored.
        if len(np.unique(labels[training])) == 1:
            continue
        for method, kind in METHODS.items():
            probabilities = kind.fit(labels[training], scores[training]).apply(scores[held_out])
            losses[method].append(_log_losses(labels[held_out], probabilities))
    return {method: np.concatenate(parts) for method, parts in losses.items() if parts}


def _parts(labels: NDArray[np.int64], groups: NDArray[Any] | None) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return positions of training and held-out samples of each part."""
    units = np.arange(len(labels)) if groups is None else np.asarray(groups)
    num_parts = min(NUM_FOLDS, *(len(np.unique(units[labels == label])) for label in (0, 1)))
    if num_parts < 2:
        return []
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(num_parts, shuffle=True, random_state=SEED)
    return list(splitter.split(labels, labels, groups))


def _log_losses(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    likely = np.where(labels == 1, probabilities, 1.0 - probabilities)
    return np.asarray(-np.log(np.clip(likely, LEAST_SCORE, 1.0)), dtype=np.float64)
