"""What classifiers are worth on the test fold that none of them has seen."""

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.evaluation.baselines import middle_hu
from luna_pipeline.core.metrics import DEFAULT_THRESHOLD
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.launchers.baselines import same_test_fold
from luna_pipeline.launchers.scoring import predict_table, prediction_rows
from luna_pipeline.tracking.mlflow_run import MlflowRun

ZERO_RULE, MIDDLE_HU = "zero_rule_baseline", "middle_hu"
TEST_METRICS = ("auc", "average_precision", "sensitivity", "specificity", "threshold")


def predict_test_fold(
    *,
    index: pd.DataFrame,
    candidates: pd.DataFrame,
    store: CutoutStore,
    checkpoints: Sequence[Checkpoint],
    zero_rule: float | None = None,
    baselines: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Score every candidate of the test fold by each classifier and by what it has to beat.

    Args:
        index: The cutout index.
        candidates: The candidate table, for the positions.
        store: Where the cutouts lie.
        checkpoints: Classifiers; the test fold is the one that the first of them has not seen.
        zero_rule: The score of the zero rule; None leaves that baseline out.
        baselines: Predictions of `feature_baseline`; must be of this test fold.

    Returns:
        A row a candidate and model: ``PREDICTION_COLUMNS`` and ``threshold``. Annotated centres are left out: they are
        no detector's candidates.

    Raises:
        ValueError: If there is not one such fold, two classifiers have one name, a classifier has seen the fold, or
            baselines were scored on other candidates.
    """
    names = [checkpoint.name for checkpoint in checkpoints]
    if len(set(names)) < len(names) or not names:
        msg = f"Classifiers must be at least one and have names of their own, got {names}. Leave out the doubles."
        raise ValueError(msg)
    found = index[index["source"] == "candidate"]
    test = found[found["fold"] == unseen_fold(checkpoints[0], found)]
    for checkpoint in checkpoints:
        _check_unseen(checkpoint, test)
    tables = [predict_table(checkpoint, test, candidates, store) for checkpoint in checkpoints]
    simple: dict[str, NDArray[np.float64] | float] = {MIDDLE_HU: middle_hu(test, store)}
    if zero_rule is not None:
        simple[ZERO_RULE] = zero_rule
    for model, scores in simple.items():
        tables.append(prediction_rows(test, candidates, scores, model=model, threshold=DEFAULT_THRESHOLD))
    if baselines is not None:
        tables.append(same_test_fold(baselines, test))
    return pd.concat(tables, ignore_index=True)


def unseen_fold(checkpoint: Checkpoint, index: pd.DataFrame) -> int:
    """Return the fold of which a classifier has seen no series, neither to learn nor to choose.

    Args:
        checkpoint: The classifier.
        index: Rows of the cutout index.

    Raises:
        ValueError: If there is none or more than one.
    """
    is_seen = index["series_instance_uid"].isin(_seen_series(checkpoint))
    unseen = sorted(set(index["fold"]) - set(index.loc[is_seen, "fold"]))
    if len(unseen) != 1:
        msg = (
            f"One fold must be unseen by the classifier, got {[int(fold) for fold in unseen]} "
            f"({checkpoint.name} {checkpoint.version}). Train it on the folds of today."
        )
        raise ValueError(msg)
    return int(unseen[0])


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


def _seen_series(checkpoint: Checkpoint) -> set[str]:
    inherited = {*checkpoint.inherited_training_series, *checkpoint.inherited_validation_series}
    return {*checkpoint.training_series, *checkpoint.validation_series, *inherited}


def _check_unseen(checkpoint: Checkpoint, test: pd.DataFrame) -> None:
    seen = sorted(_seen_series(checkpoint) & set(test["series_instance_uid"]))
    if seen:
        msg = (
            f"A classifier must not be tested on what it has seen, got {len(seen)} such series (the first {seen[0]}, "
            f"{checkpoint.name} {checkpoint.version}). Leave it out, or train it with this test fold."
        )
        raise ValueError(msg)
