"""What classifiers are worth on the test fold that none of them has seen."""

import time
from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.datasets.splits import fold_fingerprint, index_fingerprint
from luna_pipeline.core.evaluation.baselines import middle_hu, zero_rule
from luna_pipeline.core.evaluation.report import binary_report
from luna_pipeline.core.evaluation.submission import write_submission
from luna_pipeline.core.files import AnyPath
from luna_pipeline.core.training.checkpoints import Checkpoint, CheckpointStore, load_checkpoint
from luna_pipeline.launchers.baselines import labelled, same_test_fold
from luna_pipeline.launchers.folds import own_version, read_current
from luna_pipeline.launchers.leaks import seen_data
from luna_pipeline.launchers.pooling import PooledPredictions
from luna_pipeline.launchers.scored_models import FoldPredictions, network_facts, scored
from luna_pipeline.launchers.scoring import predict_table, prediction_rows
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import MlflowRun

ZERO_RULE, MIDDLE_HU = "zero_rule_baseline", "middle_hu"
TUNED_CLASSIFIER = "tuned_nodule_classifier"
TEST_METRICS = ("auc", "average_precision", "sensitivity", "specificity", "threshold")


def predict_test_fold(
    *,
    index: pd.DataFrame,
    candidates: pd.DataFrame,
    store: CutoutStore,
    test_fold: int,
    classifiers: Mapping[str, Checkpoint],
    dataset: str = "cutouts",
    zero_rule_score: float | None = None,
    baselines: FoldPredictions | None = None,
) -> FoldPredictions:
    """Score every candidate of the test fold by each classifier and by what it has to beat.

    Args:
        index: The cutout index.
        candidates: The candidate table, for the positions.
        store: Where the cutouts lie.
        test_fold: The fold that is scored.
        classifiers: Classifiers by the names that they get in the tables.
        dataset: What is told apart: ``cutouts`` nodules, ``malignant_cutouts`` malignant ones.
        zero_rule_score: The score of the zero rule; None leaves that baseline out.
        baselines: Judgement of `feature_baseline`; must be of this test fold.

    Returns:
        Their judgement. Annotated centres are left out: they are no detector's candidates.

    Raises:
        ValueError: If there is no such fold, no classifier, a classifier has seen the fold, or baselines were scored
            on other candidates.
    """
    if not classifiers:
        msg = "A test fold must be scored by a classifier, got none. Name one."
        raise ValueError(msg)
    test = _test_rows(index, store, test_fold=test_fold, dataset=dataset)
    for checkpoint in classifiers.values():
        _check_unseen(checkpoint, test)
    judged = [
        scored(partial(predict_table, checkpoint, test, candidates, store, model=name), network_facts(checkpoint))
        for name, checkpoint in classifiers.items()
    ]
    judged.append(scored(lambda: prediction_rows(test, candidates, middle_hu(test, store), model=MIDDLE_HU)))
    if zero_rule_score is not None:
        judged.append(scored(lambda: prediction_rows(test, candidates, zero_rule_score, model=ZERO_RULE)))
    digest = fold_fingerprint(index, test_fold)
    tables = [each.models.assign(fold_digest=digest) for each in judged]
    if baselines is not None:
        judged.append(_same_cutouts(baselines, test, digest))
        tables.append(baselines.models)
    return FoldPredictions(
        predictions=pd.concat([each.predictions for each in judged], ignore_index=True),
        models=pd.concat(tables, ignore_index=True),
    )


def classifiers_of_fold(
    settings: Settings, current: Checkpoint, also: Sequence[str] = (), *, test_fold: int
) -> dict[str, Checkpoint]:
    """Gather the classifiers that score a fold, by the names that they get in the tables.

    Args:
        settings: Where checkpoints lie.
        current: The classifier that counts for this fold.
        also: Further ones, as ``NAME`` (the one that counts for this fold, else the newest version) or as ``NAME
            VERSION`` (the fold's own version of that, ``0.0.1-fold3``, else that one).
        test_fold: The fold.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If a name comes twice.
    """
    names = [current.name, *also]
    if len(set(names)) < len(names):
        msg = f"Classifiers must have names of their own, got {names}. Leave out the doubles."
        raise ValueError(msg)
    return {current.name: current, **{name: _further(settings, name, test_fold) for name in also}}


def tuned_of_fold(settings: Settings, index: pd.DataFrame, test_fold: int) -> list[str]:
    """Return the winner of a study of this fold, as ``classifiers_of_fold`` takes it, if it was found on this index."""
    try:
        current = read_current(settings, TUNED_CLASSIFIER, test_fold)
    except FileNotFoundError:
        return []
    return [TUNED_CLASSIFIER] if current.index_digest == index_fingerprint(index) else []


def training_share(index: pd.DataFrame, store: CutoutStore, checkpoint: Checkpoint) -> float:
    """Return the score of the zero rule: the share of class 1 in the series that a classifier has learned from.

    Args:
        index: The cutout index.
        store: Where the cutouts lie.
        checkpoint: The classifier; it says what is told apart.
    """
    is_training = index["series_instance_uid"].isin(checkpoint.training_series) & (index["source"] == "candidate")
    return zero_rule(labelled(index[is_training], store, checkpoint.config.dataset))


def unseen_fold(checkpoint: Checkpoint, index: pd.DataFrame) -> int:
    """Return the fold of which a classifier has seen no series, neither to learn nor to choose.

    Args:
        checkpoint: The classifier.
        index: Rows of the cutout index.

    Raises:
        ValueError: If there is none or more than one.
    """
    is_seen = index["series_instance_uid"].isin(seen_data(checkpoint).series)
    unseen = sorted(set(index["fold"]) - set(index.loc[is_seen, "fold"]))
    if len(unseen) != 1:
        msg = (
            f"One fold must be unseen by the classifier, got {[int(fold) for fold in unseen]} "
            f"({checkpoint.name} {checkpoint.version}). Train it on the folds of today."
        )
        raise ValueError(msg)
    return int(unseen[0])


def write_submissions(settings: Settings, fold: FoldPredictions, *, test_fold: int) -> dict[str, AnyPath]:
    """Write the scores of each network in LUNA16's submission format.

    Returns:
        The files, ``submissions/<model>/<fold>.csv``, by model.
    """
    networks = fold.models.loc[fold.models["recipe_digest"].notna(), "model"]
    paths = {str(model): settings.home / "submissions" / model / f"{test_fold}.csv" for model in networks}
    for model, path in paths.items():
        write_submission(path, fold.predictions[fold.predictions["model"] == model])
    return paths


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


def _same_cutouts(baselines: FoldPredictions, test: pd.DataFrame, fold_digest: str) -> FoldPredictions:
    """Return the judgement of baselines, if they have judged these very cutouts."""
    same_test_fold(baselines.predictions, test)
    others = baselines.models.loc[baselines.models["fold_digest"] != fold_digest, "model"]
    if len(others):
        msg = f"Baselines and networks must be tested on the same cutouts, got others ({', '.join(others)})."
        raise ValueError(f"{msg} Materialize `feature_baseline` again with the networks' test fold.")
    return baselines


def _test_rows(index: pd.DataFrame, store: CutoutStore, *, test_fold: int, dataset: str) -> pd.DataFrame:
    found = index[(index["fold"] == test_fold) & (index["source"] == "candidate")]
    if found.empty:
        folds = sorted(int(fold) for fold in index["fold"].unique())
        msg = f"A held-out fold must exist, got {test_fold} of folds {folds}. Choose one of them."
        raise ValueError(msg)
    return labelled(found, store, dataset)


def _further(settings: Settings, wanted: str, test_fold: int) -> Checkpoint:
    checkpoints = CheckpointStore(settings.checkpoints_dir, locks=settings.local_home / "checkpoints")
    name, _, version = wanted.rpartition(" ")
    if name and not checkpoints.versions(wanted):
        return load_checkpoint(checkpoints.path(name, own_version(settings, name, version, fold=test_fold)))
    try:
        version = read_current(settings, wanted, test_fold).version
    except FileNotFoundError:
        version = checkpoints.latest(wanted)
    return load_checkpoint(checkpoints.path(wanted, version))


def _check_unseen(checkpoint: Checkpoint, test: pd.DataFrame) -> None:
    seen = sorted(seen_data(checkpoint).series & set(test["series_instance_uid"]))
    if seen:
        msg = (
            f"A classifier must not be tested on what it has seen, got {len(seen)} such series (the first {seen[0]}, "
            f"{checkpoint.name} {checkpoint.version}). Leave it out, or train it with this test fold."
        )
        raise ValueError(msg)
