"""Metrics of the test folds in the MLflow runs of the classifiers."""

import time
from collections.abc import Mapping

import pandas as pd

from luna_pipeline.core.evaluation.froc_table import evaluate_models
from luna_pipeline.core.evaluation.report import binary_report
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.launchers.evaluation.official_scores import pooled_checkpoints, reference_of
from luna_pipeline.launchers.evaluation.pooling import PooledPredictions
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import MlflowRun

TEST_METRICS = ("auc", "average_precision", "sensitivity", "specificity", "threshold")


def log_fold_metrics(settings: Settings, pooled: PooledPredictions) -> str:
    """Log each pooled classifier's metrics on its own test fold, see ``log_test_metrics``.

    Returns:
        The notes of the classifiers, each once; empty if there are none.
    """
    notes: dict[str, None] = {}
    for fold, checkpoint in pooled_checkpoints(settings, pooled):
        report = binary_report(pooled.predictions[pooled.predictions["fold"] == fold], num_bootstraps=0)
        log_test_metrics(checkpoint, report, tracking_uri=settings.mlflow_tracking_uri)
        notes[checkpoint.notes] = None
    return " ".join(note for note in notes if note)


def log_test_metrics(checkpoint: Checkpoint, report: pd.DataFrame, *, tracking_uri: str) -> None:
    """Log a classifier's row of the report to its MLflow run as ``test/<name>``, and the report as ``test/report.csv``.

    Args:
        checkpoint: The classifier; without an MLflow run nothing is logged.
        report: One row per model, see ``binary_report``.
        tracking_uri: The MLflow server.
    """
    row = report[report["model"] == checkpoint.name].iloc[0]
    if run := _log_metrics(checkpoint, {name: float(row[name]) for name in TEST_METRICS}, tracking_uri):
        run.client.log_text(run.run_id, report.to_csv(index=False), "test/report.csv")


def log_fold_scores(settings: Settings, pooled: PooledPredictions, model: str) -> None:
    """Log LUNA16's score of each fold to the MLflow run of its classifier: ``test/cpm``, ``test/sensitivity_at_1_fp``.

    Folds without a scan in the reference are skipped.
    """
    for fold, checkpoint in pooled_checkpoints(settings, pooled):
        reference = reference_of(settings, [fold])
        if reference is None or not reference.scans or checkpoint.mlflow_run_id is None:
            continue
        rows = pooled.predictions.query("fold == @fold and model == @model")
        curve = evaluate_models(rows, reference, num_bootstraps=0, seed=0)[model].curve
        values = {"cpm": curve.cpm, "sensitivity_at_1_fp": float(curve.sens_at_points[3])}
        _log_metrics(checkpoint, values, settings.mlflow_tracking_uri)


def _log_metrics(checkpoint: Checkpoint, values: Mapping[str, float], tracking_uri: str) -> MlflowRun | None:
    """Log ``test/<name>`` to a classifier's run, at the step of its weights; return the run, None if it has none."""
    if checkpoint.mlflow_run_id is None:
        return None
    from mlflow.entities import Metric

    run = MlflowRun.at(tracking_uri, checkpoint.mlflow_run_id)
    now_ms, step = int(time.time() * 1000), checkpoint.num_samples_seen
    metrics = [Metric(f"test/{name}", value, now_ms, step) for name, value in values.items()]
    run.client.log_batch(run.run_id, metrics=metrics)
    return run
