"""Metrics of the test folds in the MLflow runs of the classifiers."""

import time

import pandas as pd

from luna_pipeline.core.evaluation.froc_table import evaluate_models
from luna_pipeline.core.evaluation.report import binary_report
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.launchers.evaluation.official_scores import pooled_checkpoints, reference_of
from luna_pipeline.launchers.evaluation.pooling import PooledPredictions
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import MlflowRun

TEST_METRICS = ("auc", "average_precision", "sensitivity", "specificity", "threshold")


def log_fold_metrics(settings: Settings, pooled: PooledPredictions) -> str:
    """Note in each pooled classifier's MLflow run what it is worth on its own test fold.

    Returns:
        What a reader of the scores should know of the classifiers, in sentences; empty where there is nothing.
    """
    notes: dict[str, None] = {}
    for classifier in pooled.folds.classifiers:
        checkpoint = load_checkpoint(settings.home / classifier.path)
        predictions = pooled.predictions[pooled.predictions["fold"] == classifier.test_fold]
        report = binary_report(predictions, num_bootstraps=0)
        log_test_metrics(checkpoint, report, tracking_uri=settings.mlflow_tracking_uri)
        notes[checkpoint.notes] = None
    return " ".join(note for note in notes if note)


def log_test_metrics(checkpoint: Checkpoint, report: pd.DataFrame, *, tracking_uri: str) -> None:
    """Note a classifier's row of the report in its MLflow run, as ``test/<name>``, and the report as a file.

    Args:
        checkpoint: The classifier; without an MLflow run nothing is noted.
        report: A row a model, see ``binary_report``.
        tracking_uri: Where MLflow is.
    """
    if checkpoint.mlflow_run_id is None:
        return
    from mlflow.entities import Metric

    run = MlflowRun.at(tracking_uri, checkpoint.mlflow_run_id)
    row = report[report["model"] == checkpoint.name].iloc[0]
    now_ms, step = int(time.time() * 1000), checkpoint.num_samples_seen
    metrics = [Metric(f"test/{name}", float(row[name]), now_ms, step) for name in TEST_METRICS]
    run.client.log_batch(run.run_id, metrics=metrics)
    run.client.log_text(run.run_id, report.to_csv(index=False), "test/report.csv")


def note_fold_scores(settings: Settings, pooled: PooledPredictions, model: str) -> None:
    """Note LUNA16's score of each fold in the MLflow run of its classifier, as ``test/cpm`` and the like."""
    from mlflow.entities import Metric

    for fold, checkpoint in pooled_checkpoints(settings, pooled):
        reference = reference_of(settings, [fold])
        if reference is None or not reference.scans or checkpoint.mlflow_run_id is None:
            continue
        rows = pooled.predictions.query("fold == @fold and model == @model")
        curve = evaluate_models(rows, reference, num_bootstraps=0, seed=0)[model].curve
        values = {"test/cpm": curve.cpm, "test/sensitivity_at_1_fp": float(curve.sens_at_points[3])}
        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, checkpoint.num_samples_seen) for name, value in values.items()]
        run = MlflowRun.at(settings.mlflow_tracking_uri, checkpoint.mlflow_run_id)
        run.client.log_batch(run.run_id, metrics=metrics)
