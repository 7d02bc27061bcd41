"""How good the scores of each model are: one row a model, from the table of predictions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from luna_pipeline.core.metrics import binary_metrics

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
REPORT_COLUMNS = (
    "model",
    "num_candidates",
    "num_nodules",
    "num_series",
    "auc",
    "average_precision",
    "threshold",
    "sensitivity",
    "specificity",
    "true_positives",
    "false_positives",
    "true_negatives",
    "false_negatives",
)


def binary_report(predictions: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Report how well each model tells nodules from the other candidates.

    Args:
        predictions: One row a candidate and model, with ``PREDICTION_COLUMNS``; ``class`` is 0 or 1,
            ``probability`` lies in [0, 1].
        thresholds: For each model the score from which on (inclusive) a candidate is called a nodule.

    Returns:
        One row a model, in the order in which they first come, with ``REPORT_COLUMNS``. What is not
        defined (the AUC of one class alone, the sensitivity without nodules) is nan.

    Raises:
        ValueError: If columns or thresholds are missing, a candidate comes twice in a model, a class is
            neither 0 nor 1, or a probability lies outside [0, 1].
    """
    check_predictions(predictions)
    models = list(predictions["model"].unique())
    missing = sorted(set(models) - set(thresholds))
    if missing:
        msg = f"Every model needs a threshold, got none for {', '.join(missing)}. Hand one in for each model."
        raise ValueError(msg)
    by_model = predictions.groupby("model", sort=False)
    rows = [_row(str(model), by_model.get_group(model), thresholds[model]) for model in models]
    return pd.DataFrame(rows, columns=list(REPORT_COLUMNS))


def check_predictions(predictions: pd.DataFrame) -> None:
    """Refuse a table from which no honest figure can come.

    Args:
        predictions: One row a candidate and model, with ``PREDICTION_COLUMNS``.

    Raises:
        ValueError: What is wrong, with the first offending model and candidate.
    """
    missing = [column for column in PREDICTION_COLUMNS if column not in predictions.columns]
    if missing:
        msg = (
            f"Predictions must have the columns {', '.join(PREDICTION_COLUMNS)}, got none named "
            f"{', '.join(missing)}. Materialize the predictions again."
        )
        raise ValueError(msg)
    probability = predictions["probability"]
    _refuse(predictions, ~probability.between(0.0, 1.0), "A probability must lie in [0, 1]", "probability")
    _refuse(predictions, ~predictions["class"].isin([0, 1]), "A class must be 0 or 1", "class")
    twice = predictions.duplicated(["model", "candidate_id"])
    _refuse(predictions, twice, "A model must score a candidate once", "candidate_id")


def _refuse(predictions: pd.DataFrame, is_wrong: pd.Series, rule: str, column: str) -> None:
    if not is_wrong.any():
        return
    first = predictions[is_wrong].iloc[0]
    msg = (
        f"{rule}, got {first[column]} (candidate {first['candidate_id']}, model {first['model']}, "
        f"{int(is_wrong.sum())} such rows). Score the candidates again."
    )
    raise ValueError(msg)


def _row(model: str, predictions: pd.DataFrame, threshold: float) -> dict[str, str | int | float]:
    labels = predictions["class"].to_numpy(dtype=np.int64)
    scores = predictions["probability"].to_numpy(dtype=np.float64)
    metrics = binary_metrics(labels, scores, threshold=threshold)
    is_nodule, is_called = labels == 1, scores >= threshold
    return {
        "model": model,
        "num_candidates": len(labels),
        "num_nodules": int(is_nodule.sum()),
        "num_series": int(predictions["series_instance_uid"].nunique()),
        "threshold": float(threshold),
        **{name: metrics[name] for name in ("auc", "average_precision", "sensitivity", "specificity")},
        "true_positives": int((is_nodule & is_called).sum()),
        "false_positives": int((~is_nodule & is_called).sum()),
        "true_negatives": int((~is_nodule & ~is_called).sum()),
        "false_negatives": int((is_nodule & ~is_called).sum()),
    }
