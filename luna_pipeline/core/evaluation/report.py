"""How good the scores of each model are: one row a model, from the table of predictions."""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.evaluation.calibration import calibration_errors
from luna_pipeline.core.evaluation.intervals import ranking_intervals
from luna_pipeline.core.metrics.binary import binary_metrics, decision_metrics, sensitivity_at_specificity

PREDICTION_COLUMNS = (
    "candidate_id",
    "series_instance_uid",
    "x_mm",
    "y_mm",
    "z_mm",
    "class",
    "fold",
    "model",
    "probability",
)
# What the model that gave a score has decided on its own validation part: each fold has a model of its own.
THRESHOLD_COLUMNS = ("threshold", "threshold_f1", "threshold_sensitivity")
DECISION_COLUMNS = (*THRESHOLD_COLUMNS, "calibrated")
SPECIFICITY = 0.95
REPORT_COLUMNS = (
    "model",
    "num_candidates",
    "num_nodules",
    "num_series",
    "num_folds",
    "auc",
    "auc_lower",
    "auc_upper",
    "average_precision",
    "average_precision_lower",
    "average_precision_upper",
    "sensitivity_at_specificity_95",
    "threshold",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "true_positives",
    "false_positives",
    "true_negatives",
    "false_negatives",
    "sensitivity_at_threshold_f1",
    "specificity_at_threshold_f1",
    "sensitivity_at_threshold_sensitivity",
    "specificity_at_threshold_sensitivity",
    "brier",
    "ece",
    "brier_calibrated",
    "ece_calibrated",
)

Row = dict[str, str | int | float]


def binary_report(predictions: pd.DataFrame, *, num_bootstraps: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Report how well each model tells nodules from the other candidates.

    Folds are pooled: a score counts by itself in AUC and average precision, and is called a nodule by the thresholds
    of its own row, which are those of its fold's model.

    Args:
        predictions: One row a candidate and model, see ``check_predictions``.
        num_bootstraps: Draws of scans for the 95 % intervals; 0 leaves them out.
        seed: Of the draws; models with the same scans get the same draws.

    Returns:
        One row a model, in the order in which they first come, with ``REPORT_COLUMNS``. ``threshold`` is the one that
        all rows share. What is not defined (the AUC of one class alone, the sensitivity without nodules, one threshold
        of several, calibration where a fold has none) is nan.

    Raises:
        ValueError: If the table is not one of predictions.
    """
    check_predictions(predictions)
    rows = [
        _row(str(model), of_model, num_bootstraps=num_bootstraps, seed=seed)
        for model, of_model in predictions.groupby("model", sort=False, observed=True)
    ]
    return pd.DataFrame(rows, columns=list(REPORT_COLUMNS))


def check_predictions(predictions: pd.DataFrame) -> None:
    """Refuse a table from which no honest figure can come.

    Args:
        predictions: One row a candidate and model, with ``PREDICTION_COLUMNS`` and ``DECISION_COLUMNS``: ``class`` is
            0 or 1; ``probability`` and the thresholds, from which on (inclusive) it is called a nodule, lie in [0, 1];
            so does ``calibrated``, which is nan where there is no calibration.

    Raises:
        ValueError: What is wrong, with the first offending model and candidate.
    """
    columns = (*PREDICTION_COLUMNS, *DECISION_COLUMNS)
    missing = [column for column in columns if column not in predictions.columns]
    if missing:
        msg = (
            f"Predictions must have the columns {', '.join(columns)}, got none named "
            f"{', '.join(missing)}. Materialize the predictions again."
        )
        raise ValueError(msg)
    for column, name in {"probability": "probability", **dict.fromkeys(THRESHOLD_COLUMNS, "threshold")}.items():
        _refuse(predictions, ~predictions[column].between(0.0, 1.0), f"A {name} must lie in [0, 1]", column)
    calibrated = predictions["calibrated"]
    is_wrong = calibrated.notna() & ~calibrated.between(0.0, 1.0)
    _refuse(predictions, is_wrong, "A calibrated probability must lie in [0, 1] or be missing", "calibrated")
    _refuse(predictions, ~predictions["class"].isin([0, 1]), "A class must be 0 or 1", "class")
    twice = predictions.duplicated(["model", "candidate_id"])
    _refuse(predictions, twice, "A model must score a candidate once", "candidate_id")


def called(predictions: pd.DataFrame, threshold: str = "threshold") -> NDArray[np.bool_]:
    """Return which candidates (N,) are called nodules by the thresholds of their own rows.

    Args:
        predictions: Rows of the table of predictions.
        threshold: Which of ``THRESHOLD_COLUMNS`` decides.
    """
    return predictions["probability"].to_numpy(dtype=np.float64) >= predictions[threshold].to_numpy(dtype=np.float64)


def _refuse(predictions: pd.DataFrame, is_wrong: pd.Series, rule: str, column: str) -> None:
    if not is_wrong.any():
        return
    first = predictions[is_wrong].iloc[0]
    msg = (
        f"{rule}, got {first[column]} (candidate {first['candidate_id']}, model {first['model']}, "
        f"{int(is_wrong.sum())} such rows). Score the candidates again."
    )
    raise ValueError(msg)


def _row(model: str, predictions: pd.DataFrame, *, num_bootstraps: int, seed: int) -> Row:
    labels = predictions["class"].to_numpy(dtype=np.int64)
    thresholds = predictions["threshold"].unique()
    return {
        "model": model,
        "num_candidates": len(labels),
        "num_nodules": int(labels.sum()),
        "num_series": int(predictions["series_instance_uid"].nunique()),
        "num_folds": int(predictions["fold"].nunique()),
        "threshold": float(thresholds[0]) if len(thresholds) == 1 else math.nan,
        **_ranking(labels, predictions, num_bootstraps=num_bootstraps, seed=seed),
        **_decided(labels, predictions),
        **_calibration(labels, predictions),
    }


def _ranking(labels: NDArray[np.int64], predictions: pd.DataFrame, *, num_bootstraps: int, seed: int) -> Row:
    scores = predictions["probability"].to_numpy(dtype=np.float64)
    metrics = binary_metrics(labels, scores)
    row: Row = {"sensitivity_at_specificity_95": sensitivity_at_specificity(labels, scores, specificity=SPECIFICITY)}
    intervals = ranking_intervals(
        labels, scores, predictions["series_instance_uid"], num_bootstraps=num_bootstraps, seed=seed
    )
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
    """Return the errors before and after; half a calibration gives none, it would be of other candidates."""
    before, after = (
        calibration_errors(labels, predictions[column].to_numpy(dtype=np.float64))
        for column in ("probability", "calibrated")
    )
    return {**before, **{f"{name}_calibrated": value for name, value in after.items()}}
