"""LUNA25's official score of malignancy, to the last digit, and intervals over patients.

A nodule that was seen in three years is three rows with nearly the same picture and the same label. The official
interval draws rows, which takes them as independent; draws of patients, each with all rows, do not.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luna_pipeline.core.evaluation.resampling import MIN_SCANS, RankedSamples, scan_draws
from luna_pipeline.core.metrics.binary import checked_samples

NUM_BOOTSTRAPS = 1000
SEED = 42
SPECIFICITY = SENSITIVITY = 0.95
_PERCENTILES = (2.5, 97.5)
_NO_BOUNDS = (float("nan"), float("nan"))

Floats = NDArray[np.float64]
Bounds = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Luna25Score:
    """LUNA25's score. Bounds are percentiles 2.5 and 97.5 of 1,000 draws.

    Attributes:
        auc: Area under the ROC curve: the official final score.
        auc_bounds: Official bounds: rows are drawn.
        sensitivity: Sensitivity at 95 % specificity, officially.
        specificity: Specificity at 95 % sensitivity, officially.
        auc_patient_bounds: Bounds over draws of patients; nan with fewer than two patients.
        sensitivity_patient_bounds: Likewise for the sensitivity; the challenge has no bounds of it.
        specificity_patient_bounds: Likewise for the specificity.
        num_rows: Number of scored rows (AnnotationIDs).
        num_malignant: Malignant ones among them.
        num_patients: Number of patients.
        num_skipped_draws: Official draws with a single class, which are left out.
    """

    auc: float
    auc_bounds: Bounds
    sensitivity: float
    specificity: float
    auc_patient_bounds: Bounds
    sensitivity_patient_bounds: Bounds
    specificity_patient_bounds: Bounds
    num_rows: int
    num_malignant: int
    num_patients: int
    num_skipped_draws: int

    def to_dict(self) -> dict[str, Any]:
        """Return the official metrics by their official names, and everything else below ``more``."""
        values = asdict(self)
        official = {
            "Final Score": values.pop("auc"),
            "AUC": self.auc,
            "AUC 95% CI lower bound": values["auc_bounds"][0],
            "AUC 95% CI upper bound": values.pop("auc_bounds")[1],
            "Sensitivity": values.pop("sensitivity"),
            "Specificity": values.pop("specificity"),
        }
        return official | {"more": {name: _plain(value) for name, value in values.items()}}


def luna25_score(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike) -> Luna25Score:
    """Return LUNA25's score.

    Args:
        labels: True classes (N,), 1 for malignant. Both classes must occur.
        scores: Finite scores of malignancy (N,). The official draws depend on the order of the rows.
        patients: Patient of each row (N,), any names. Their order decides which draws are made, the names do not.

    Raises:
        ValueError: If the lengths differ, a label is neither 0 nor 1, a class is missing or a score is not finite.

    Source:
        DIAGNijmegen/luna25-evaluation-public: scikit-learn's ROC curve without its collinear points;
        ``RandomState(42).choice`` over rows, of which ``randint`` is the same; draws of one class are skipped;
        ``numpy.percentile``. The operating points are the last one with at most 5 % false positives, and the first one
        with at least 95 % sensitivity.
    """
    is_malignant, values = checked_samples(np.asarray(labels), np.asarray(scores))
    _check(is_malignant, values)
    _, places = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    by_row = RankedSamples.of(values, is_malignant == 1, np.arange(len(values)))
    by_patient = RankedSamples.of(values, is_malignant == 1, places)
    num_patients = int(places.max()) + 1
    official = np.array([auc_of_curve(*curve) for curve in _drawn_curves(by_row, len(values)) if curve is not None])
    of_patients = np.full((0, 3), np.nan)
    if num_patients >= MIN_SCANS:
        curves = (curve for curve in _drawn_curves(by_patient, num_patients) if curve is not None)
        of_patients = np.array([_values_of(*curve) for curve in curves]).reshape(-1, 3)
    auc, sensitivity, specificity = _values_of(*_curve(*by_row.counts()))
    bounds = [_bounds(column) for column in of_patients.T]
    return Luna25Score(
        auc=auc,
        auc_bounds=_bounds(official),
        sensitivity=sensitivity,
        specificity=specificity,
        auc_patient_bounds=bounds[0],
        sensitivity_patient_bounds=bounds[1],
        specificity_patient_bounds=bounds[2],
        num_rows=len(values),
        num_malignant=int(is_malignant.sum()),
        num_patients=num_patients,
        num_skipped_draws=NUM_BOOTSTRAPS - len(official),
    )


def auc_of_curve(false_positive_rates: Floats, true_positive_rates: Floats) -> float:
    """Return the area below a ROC curve, in the arithmetic of scikit-learn's ``auc``."""
    return float(np.trapezoid(true_positive_rates, false_positive_rates))


def _check(labels: NDArray[np.int64], scores: Floats) -> None:
    num_odd = int((~np.isfinite(scores)).sum())
    if num_odd:
        raise ValueError(f"A score must be a finite number, got {num_odd} that are not. Score these nodules again.")
    num_malignant = int(labels.sum())
    if not 0 < num_malignant < len(labels):
        rule = f"A score needs malignant and benign nodules, got {num_malignant} malignant of {len(labels)}."
        raise ValueError(f"{rule} Give predictions of both.")


def _drawn_curves(ranked: RankedSamples, num_groups: int) -> Iterator[tuple[Floats, Floats] | None]:
    """Yield the ROC curve of each draw of groups; None where a class is missing."""
    for draw in scan_draws(num_groups, num_bootstraps=NUM_BOOTSTRAPS, seed=SEED):
        positives, negatives = ranked.counts(draw)
        yield _curve(positives, negatives) if positives[-1] and negatives[-1] else None


def _curve(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return false and true positive rates of a ROC curve: scikit-learn's points, so that sums round alike.

    Args:
        positives: Number of positives with at least each distinct score (G,), by decreasing score.
        negatives: Likewise for negatives.
    """
    # Scores of which no row was drawn are no points.
    is_step = np.diff(positives + negatives, prepend=0) > 0
    positives, negatives = positives[is_step], negatives[is_step]
    if len(positives) > 2:
        is_corner = (np.diff(positives, 2) != 0) | (np.diff(negatives, 2) != 0)
        is_kept = np.concatenate([[True], is_corner, [True]])
        positives, negatives = positives[is_kept], negatives[is_kept]
    true_positives = np.concatenate([[0.0], positives])
    false_positives = np.concatenate([[0.0], negatives])
    return false_positives / false_positives[-1], true_positives / true_positives[-1]


def _values_of(false_positive_rates: Floats, true_positive_rates: Floats) -> tuple[float, float, float]:
    """Return AUC, sensitivity at 95 % specificity and specificity at 95 % sensitivity of a curve."""
    last = np.flatnonzero(false_positive_rates <= 1 - SPECIFICITY)[-1]
    first = np.flatnonzero(true_positive_rates >= SENSITIVITY)[0]
    area = auc_of_curve(false_positive_rates, true_positive_rates)
    return area, float(true_positive_rates[last]), float(1 - false_positive_rates[first])


def _bounds(values: Floats) -> Bounds:
    if not len(values):
        return _NO_BOUNDS
    # numpy.percentile, as officially: a quantile of 0.025 written otherwise may differ in its last digit.
    lower, upper = np.percentile(values, _PERCENTILES)
    return float(lower), float(upper)


def _plain(value: Any) -> Any:
    """Return a value for JSON, which has neither nan nor tuples."""
    if isinstance(value, tuple):
        return None if np.isnan(value).any() else list(value)
    return value
