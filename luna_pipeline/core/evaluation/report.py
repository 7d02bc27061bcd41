"""Metrics of each model, computed from the table of predictions."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.evaluation.calibration import calibration_errors
from luna_pipeline.core.evaluation.intervals import ranking_intervals
from luna_pipeline.core.metrics.binary import binary_metrics, decision_metrics, sensitivity_at_specificity

PREDICTION_COLUMNS = (
    *("candidate_id", "series_instance_uid", "x_mm", "y_mm", "z_mm"),
    *("class", "fold", "model", "probability"),
)
# Chosen by the model of the row on its validation part; each fold has its own model.
THRESHOLD_COLUMNS = ("threshold", "threshold_f1", "threshold_sensitivity")
DECISION_COLUMNS = (*THRESHOLD_COLUMNS, "calibrated")
SPECIFICITY = 0.95
REPORT_COLUMNS = (
    *("model", "num_candidates", "num_nodules", "num_series", "num_folds"),
    *("auc", "auc_lower", "auc_upper", "average_precision", "average_precision_lower", "average_precision_upper"),
    *("sensitivity_at_specificity_95", "threshold", "sensitivity", "specificity", "precision", "f1"),
    *("true_positives", "false_positives", "true_negatives", "false_negatives"),
    *("sensitivity_at_threshold_f1", "specificity_at_threshold_f1"),
    *("sensitivity_at_threshold_sensitivity", "specificity_at_threshold_sensitivity"),
    *("brier", "ece", "brier_calibrated", "ece_calibrated"),
)

Row = dict[str, str | int | float]


def binary_report(
    predictions: pd.DataFrame,
    *,
    groups: Mapping[str, str] | None = None,
    num_bootstraps: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the metrics of each model for distinguishing nodules from other candidates.

    Folds are pooled: AUC and average precision rank all scores together. A candidate is called a nodule by the
    thresholds of its row, which are those of its fold's model.

    Args:
        predictions: One row per candidate and model, see ``check_predictions``.
        groups: Group of a series that is drawn as a whole, such as its patient (``patient_groups``); a series without
            one is drawn by itself. None: each series.
        num_bootstraps: Number of draws for the 95 % intervals; 0 for none.
        seed: Seed of the draws; models with the same scans get the same draws.

    Returns:
        One row per model, in the order of their first rows, with ``REPORT_COLUMNS``. Undefined values are nan: AUC of
        one class, sensitivity without nodules, ``threshold`` if it differs between rows, calibration errors if a fold
        has no calibration.

    Raises:
        ValueError: If the predictions are invalid.
    """
    check_predictions(predictions)
    rows = [
        _row(str(model), of_model, groups or {}, num_bootstraps=num_bootstraps, seed=seed)
        for model, of_model in predictions.groupby("model", sort=False, observed=True)
    ]
    return pd.DataFrame(rows, columns=list(REPORT_COLUMNS))


def check_predictions(predictions: pd.DataFrame) -> None:
    """Validate a table of predictions.

    Args:
        predictions: One row per candidate and model, with ``PREDICTION_COLUMNS`` and ``DECISION_COLUMNS``: ``class`` is
            0 or 1; ``probability`` and the (inclusive) thresholds lie in [0, 1]; ``calibrated`` lies in [0, 1] or is
            nan.

    Raises:
        ValueError: If a column is missing or a row is invalid; names the first model and candidate.
    """
    columns = (*PREDICTION_COLUMNS, *DECISION_COLUMNS)
    missing = [column for column in columns if column not in predictions.columns]
    if missing:
        msg = f"Predictions must have the columns {', '.join(columns)}, got none named {', '.join(missing)}."
        raise ValueError(f"{msg} Materialize the predictions again.")
    for column, name in {"probability": "probability", **dict.fromkeys(THRESHOLD_COLUMNS, "threshold")}.items():
        _refuse(predictions, ~predictions[column].between(0.0, 1.0), f"A {name} must lie in [0, 1]", column)
    calibrated = predictions["calibrated"]
    is_wrong = calibrated.notna() & ~calibrated.between(0.0, 1.0)
    _refuse(predictions, is_wrong, "A calibrated probability must lie in [0, 1] or be missing", "calibrated")
    _refuse(predictions, ~predictions["class"].isin([0, 1]), "A class must be 0 or 1", "class")
    twice = predictions.duplicated(["model", "candidate_id"])
    _refuse(predictions, twice, "A model must score a candidate once", "candidate_id")


def called(predictions: pd.DataFrame, threshold: str = "threshold") -> NDArray[np.bool_]:
    """Return which candidates (N,) are called nodules by one of ``THRESHOLD_COLUMNS`` of their rows."""
    return predictions["probability"].to_numpy(dtype=np.float64) >= predictions[threshold].to_numpy(dtype=np.float64)


def _refuse(predictions: pd.DataFrame, is_wrong: pd.Series, rule: str, column: str) -> None:
    if not is_wrong.any():
        return
    first = predictions[is_wrong].iloc[0]
    msg = f"{rule}, got {first[column]} (candidate {first['candidate_id']}, model {first['model']},"
    raise ValueError(f"{msg} {int(is_wrong.sum())} such rows). Score the candidates again.")


def _row(model: str, predictions: pd.DataFrame, groups: Mapping[str, str], *, num_bootstraps: int, seed: int) -> Row:
    labels = predictions["class"].to_numpy(dtype=np.int64)
    thresholds = predictions["threshold"].unique()
    return {
        "model": model,
        "num_candidates": len(labels),
        "num_nodules": int(labels.sum()),
        "num_series": int(predictions["series_instance_uid"].nunique()),
        "num_folds": int(predictions["fold"].nunique()),
        "threshold": float(thresholds[0]) if len(thresholds) == 1 else math.nan,
        **_ranking(labels, predictions, groups, num_bootstraps=num_bootstraps, seed=seed),
        **_decided(labels, predictions),
        **_calibration(labels, predictions),
    }


def _ranking(
    labels: NDArray[np.int64],
    predictions: pd.DataFrame,
    groups: Mapping[str, str],
    *,
    num_bootstraps: int,
    seed: int,
) -> Row:
    scores = predictions["probability"].to_numpy(dtype=np.float64)
    metrics = binary_metrics(labels, scores)
    row: Row = {"sensitivity_at_specificity_95": sensitivity_at_specificity(labels, scores, specificity=SPECIFICITY)}
    scans = [groups.get(uid, uid) for uid in predictions["series_instance_uid"].astype(str)]
    intervals = ranking_intervals(labels, scores, scans, num_bootstraps=num_bootstraps, seed=seed)
    for name, (lower, upper) in intervals.items():
        row |= {name: metrics[name], f"{name}_lower": lower, f"{name}_upper": upper}
    return row


def _decided(labels: NDArray[np.int64], predictions: pd.DataFrame) -> Row:
    row: Row = {**decision_metrics(labels, called(predictions))}
    for threshold in ("threshold_f1", "threshold_sensitivity"):
        metrics = decision_metrics(labels, called(predictions, threshold))
        row |= {f"{name}_at_{threshold}": metrics[name] for name in ("sensitivity", "specificity")}
    return row


def _calibration(labels: NDArray[np.int64], predictions: pd.DataFrame) -> Row:
    """Return the errors before and after calibration; the latter are nan if a candidate has no calibrated score."""
    columns = (predictions[name].to_numpy(dtype=np.float64) for name in ("probability", "calibrated"))
    before, after = (calibration_errors(labels, scores) for scores in columns)
    return {**before, **{f"{name}_calibrated": value for name, value in after.items()}}
