"""Metrics, figures and data of the test folds in the MLflow runs of the classifiers."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from luna_pipeline.core.evaluation.fold_names import folds_in_words
from luna_pipeline.core.evaluation.froc_plot import froc_png
from luna_pipeline.core.evaluation.froc_table import evaluate_models
from luna_pipeline.core.evaluation.report import binary_report
from luna_pipeline.core.events.messages import Mode
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.launchers.evaluation.official_scores import pooled_checkpoints, reference_of
from luna_pipeline.launchers.evaluation.pooling import PooledPredictions
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_figures import log_png
from luna_pipeline.tracking.mlflow_inputs import DataInput, log_inputs
from luna_pipeline.tracking.mlflow_run import MlflowRun

TEST_CANDIDATES_TAG = "luna.test_candidates"
TEST_METRICS = ("auc", "average_precision", "sensitivity", "specificity", "threshold")


def log_fold_metrics(settings: Settings, pooled: PooledPredictions) -> str:
    """Log each pooled classifier's metrics on its own test fold, see ``log_test_metrics``, and name the fold's data.

    Returns:
        The notes of the classifiers, each once; empty if there are none.
    """
    notes: dict[str, None] = {}
    for fold, checkpoint in pooled_checkpoints(settings, pooled):
        report = binary_report(pooled.predictions[pooled.predictions["fold"] == fold], num_bootstraps=0)
        log_test_metrics(checkpoint, report, tracking_uri=settings.mlflow_tracking_uri)
        _tag_sample(settings, checkpoint, pooled)
        _log_test_data(settings, pooled, checkpoint, report, fold=fold)
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


def log_fold_figures(
    settings: Settings,
    pooled: PooledPredictions,
    name: str,
    *,
    whole: bytes,
    draw: Callable[[pd.DataFrame], bytes],
) -> None:
    """Log a figure of each fold to the MLflow run of its classifier, as ``test/<name>.png``.

    Args:
        settings: The installation.
        pooled: Predictions of the folds.
        name: Name of the figure.
        whole: The figure of all folds, a PNG file.
        draw: Draws it of the rows of one fold.
    """
    for fold, checkpoint in pooled_checkpoints(settings, pooled):
        is_whole = pooled.folds.folds == [fold]
        png = whole if is_whole else draw(pooled.predictions[pooled.predictions["fold"] == fold])
        log_test_figure(settings, checkpoint, name, png)


def log_test_figure(settings: Settings, checkpoint: Checkpoint, name: str, png: bytes) -> None:
    """Log a PNG file to a classifier's run as ``test/<name>.png``; without a run nothing is logged."""
    if checkpoint.mlflow_run_id is not None:
        log_png(MlflowRun.at(settings.mlflow_tracking_uri, checkpoint.mlflow_run_id), png, f"test/{name}.png")


def log_fold_scores(settings: Settings, pooled: PooledPredictions, model: str, *, whole: bytes | None = None) -> None:
    """Log LUNA16's score of each fold to the MLflow run of its classifier: ``test/cpm``, ``test/sensitivity_at_1_fp``.

    Folds without a scan in the reference are skipped.

    Args:
        settings: The installation.
        pooled: Predictions of the folds.
        model: The classifier.
        whole: FROC curves of all folds, a PNG file: those of each fold are logged as ``test/froc.png``. None for none.
    """
    for fold, checkpoint in pooled_checkpoints(settings, pooled):
        reference = reference_of(settings, [fold])
        if reference is None or not reference.scans or checkpoint.mlflow_run_id is None:
            continue
        rows = pooled.predictions[pooled.predictions["fold"] == fold]
        results = evaluate_models(rows, reference, num_bootstraps=0, seed=0)
        curve = results[model].curve
        values = {"cpm": curve.cpm, "sensitivity_at_1_fp": float(curve.sens_at_points[3])}
        _log_metrics(checkpoint, values, settings.mlflow_tracking_uri)
        if whole is not None:
            title = folds_in_words([fold], pooled.folds.num_folds)
            marks: dict[str, Any] = {"is_synthetic": settings.is_synthetic, "footnote": pooled.footnote}
            is_whole = pooled.folds.folds == [fold]
            log_test_figure(
                settings, checkpoint, "froc", whole if is_whole else froc_png(results, title=title, **marks)
            )


def _tag_sample(settings: Settings, checkpoint: Checkpoint, pooled: PooledPredictions) -> None:
    """Tag a classifier's run with the number of test candidates that its scores are of."""
    if checkpoint.mlflow_run_id is not None:
        run = MlflowRun.at(settings.mlflow_tracking_uri, checkpoint.mlflow_run_id)
        run.client.set_tag(run.run_id, TEST_CANDIDATES_TAG, pooled.sample or "all")


def _log_test_data(
    settings: Settings, pooled: PooledPredictions, checkpoint: Checkpoint, report: pd.DataFrame, *, fold: int
) -> None:
    """Name a test fold as an input of its classifier's run."""
    if checkpoint.mlflow_run_id is None:
        return
    is_own = (pooled.models["fold"] == fold) & (pooled.models["model"] == checkpoint.name)
    row = report[report["model"] == checkpoint.name].iloc[0]
    data = DataInput(
        role=str(Mode.TEST),
        name=checkpoint.config.dataset,
        digest=str(pooled.models.loc[is_own, "fold_digest"].iloc[0]),
        source=str(settings.tables_dir / "cutout_index.parquet"),
        num_rows=int(row["num_candidates"]),
        numbers={"num_series": int(row["num_series"]), "num_positive": int(row["num_nodules"]), "folds": [fold]},
    )
    log_inputs(MlflowRun.at(settings.mlflow_tracking_uri, checkpoint.mlflow_run_id), [data])


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
