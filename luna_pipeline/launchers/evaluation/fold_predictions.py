"""Scores of a test fold by classifiers and baselines that have not seen it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.candidates.submission import write_submission
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.splits import fold_fingerprint, index_fingerprint
from luna_pipeline.core.evaluation.baselines import middle_hu, zero_rule
from luna_pipeline.core.storage.files import AnyPath
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.launchers.cross_validation import read_current
from luna_pipeline.launchers.evaluation.feature_baselines import FittedBaselines
from luna_pipeline.launchers.evaluation.scoring import labelled, predict_table, prediction_rows
from luna_pipeline.launchers.installation import checkpoint_store
from luna_pipeline.launchers.seen_data import seen_data
from luna_pipeline.launchers.versions import own_version, recipe_digest
from luna_pipeline.settings import Settings

ZERO_RULE, MIDDLE_HU = "zero_rule_baseline", "middle_hu"
TUNED_CLASSIFIER = "tuned_nodule_classifier"


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldPredictions:
    """Scores of one test fold by several models.

    Attributes:
        predictions: One row per candidate and model: ``PREDICTION_COLUMNS`` and ``DECISION_COLUMNS``.
        models: One row per model, the table ``nodule_models``. Baselines have no version, MLflow run and recipe;
            ``fold_digest`` identifies the scored candidates, see ``fold_fingerprint``; ``index_digest`` the index that
            a feature baseline was fitted on, null for other models, and absent in tables of earlier versions.
    """

    predictions: pd.DataFrame
    models: pd.DataFrame


def predict_test_fold(
    *,
    index: pd.DataFrame,
    candidates: pd.DataFrame,
    store: CutoutSource,
    test_fold: int,
    classifiers: Mapping[str, Checkpoint],
    dataset: str = "cutouts",
    zero_rule_score: float | None = None,
    baselines: FoldPredictions | None = None,
) -> FoldPredictions:
    """Score every candidate of the test fold by each classifier and by the baselines.

    Annotated centres are not scored: no detector proposed them.

    Args:
        index: The cutout index.
        candidates: The candidate table, for the positions.
        store: Source of the cutouts.
        test_fold: The fold to score.
        classifiers: Classifiers by their names in the tables.
        dataset: The task: ``cutouts`` nodules, ``malignant_cutouts`` malignant ones.
        zero_rule_score: The score of the zero rule; None leaves that baseline out.
        baselines: Scores of `feature_baseline`; must be of this test fold.

    Raises:
        ValueError: If there is no such fold, no classifier, a classifier has seen the fold, or baselines were scored
            on other candidates.
    """
    if not classifiers:
        msg = "A test fold must be scored by a classifier, got none. Name one."
        raise ValueError(msg)
    test, digest = _test_rows(index, store, test_fold=test_fold, dataset=dataset), fold_fingerprint(index, test_fold)
    for checkpoint in classifiers.values():
        _check_unseen(checkpoint, test)
    rows_of = partial(prediction_rows, test, candidates)
    scored = [
        _scored(partial(predict_table, checkpoint, test, candidates, store, model=name), digest, checkpoint)
        for name, checkpoint in classifiers.items()
    ]
    scored.append(_scored(lambda: rows_of(middle_hu(test, store), model=MIDDLE_HU), digest))
    if zero_rule_score is not None:
        scored.append(_scored(partial(rows_of, zero_rule_score, model=ZERO_RULE), digest))
    if baselines is not None:
        check_same_test_fold(baselines, test, digest)
        scored.append(baselines)
    return FoldPredictions(
        predictions=pd.concat([each.predictions for each in scored], ignore_index=True),
        models=pd.concat([each.models for each in scored], ignore_index=True),
    )


def classifiers_of_fold(
    settings: Settings, current: Checkpoint, also: Sequence[str] = (), *, test_fold: int
) -> dict[str, Checkpoint]:
    """Load the classifiers that score a fold, by their names in the tables.

    Args:
        settings: The installation.
        current: The fold's current classifier.
        also: Further classifiers. ``NAME`` is the fold's current version, or the newest version without one. ``NAME
            VERSION`` is the fold's own version (``0.0.1-fold3``), or that version without one.
        test_fold: The fold.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If a name occurs twice.
    """
    names = [current.name, *also]
    if len(set(names)) < len(names):
        msg = f"Classifiers must have different names, got {names}. Leave out the doubles."
        raise ValueError(msg)
    return {current.name: current, **{name: _checkpoint_named(settings, name, test_fold) for name in also}}


def tuned_of_fold(settings: Settings, index: pd.DataFrame, test_fold: int) -> list[str]:
    """Return the name of the fold's tuned classifier if its study used this index, for ``classifiers_of_fold``."""
    try:
        current = read_current(settings, TUNED_CLASSIFIER, test_fold)
    except FileNotFoundError:
        return []
    return [TUNED_CLASSIFIER] if current.index_digest == index_fingerprint(index) else []


def training_share(index: pd.DataFrame, store: CutoutSource, checkpoint: Checkpoint) -> float:
    """Return the score of the zero rule: the share of class 1 among the candidates of a classifier's training series.

    Args:
        index: The cutout index.
        store: Source of the cutouts.
        checkpoint: The classifier; its configuration determines the task.
    """
    is_training = index["series_instance_uid"].isin(checkpoint.training_series) & (index["source"] == "candidate")
    return zero_rule(labelled(index[is_training], store, checkpoint.config.dataset))


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


def num_parameters(checkpoint: Checkpoint) -> int:
    """Return the number of parameters of a checkpoint's network."""
    return sum(parameter.numel() for parameter in network_of(checkpoint).parameters())


def models_of_baselines(fitted: FittedBaselines) -> pd.DataFrame:
    """Return fitted baselines as rows of the table of models; the scoring time is that of computing the features."""
    (fold,) = fitted.predictions["fold"].unique()
    num_candidates = fitted.num_candidates["test"]
    return _models_table(
        _model_row(
            baseline.model.name,
            int(fold),
            num_candidates=num_candidates,
            seconds=num_candidates / fitted.candidates_per_second,
            num_parameters=baseline.model.num_parameters,
            training_seconds=baseline.training_seconds,
            fold_digest=fitted.fold_digest,
            index_digest=fitted.index_digest,
        )
        for baseline in fitted.baselines
    )


def check_same_test_fold(baselines: FoldPredictions, test: pd.DataFrame, fold_digest: str) -> None:
    """Check that baselines have scored these candidates with these labels, on the same cutouts.

    A baseline is fitted on other folds than the one that it scores, so it has not seen these candidates.

    Args:
        baselines: Scores of `feature_baseline`.
        test: Rows of the cutout index that the networks score.
        fold_digest: ``fold_fingerprint`` of the test fold.

    Raises:
        ValueError: If a baseline has scored other candidates or cutouts, or with other labels or folds.
    """
    columns = ["candidate_id", "class", "fold"]
    expected = test[columns].astype("int64").sort_values("candidate_id").to_numpy()
    for name, rows in baselines.predictions.groupby("model", sort=False):
        found = rows[columns].astype("int64").sort_values("candidate_id").to_numpy()
        if not np.array_equal(found, expected):
            msg = (
                f"Baselines and networks must be tested on the same candidates, got {len(found)} of folds "
                f"{np.unique(found[:, 2]).tolist()} and {len(expected)} of folds {np.unique(expected[:, 2]).tolist()} "
                f"({name}). Materialize `feature_baseline` again with the networks' test fold."
            )
            raise ValueError(msg)
    others = baselines.models.loc[baselines.models["fold_digest"] != fold_digest, "model"]
    if len(others):
        msg = f"Baselines and networks must be tested on the same cutouts, got others ({', '.join(others)})."
        raise ValueError(f"{msg} Materialize `feature_baseline` again with the networks' test fold.")


def _scored(score: Callable[[], pd.DataFrame], digest: str, checkpoint: Checkpoint | None = None) -> FoldPredictions:
    """Score a fold by one model and measure the time; ``checkpoint`` is the network, None for a baseline."""
    started = time.perf_counter()
    rows = score()
    seconds = time.perf_counter() - started
    facts = {} if checkpoint is None else _network_facts(checkpoint)
    model, fold = str(rows["model"].iloc[0]), int(rows["fold"].iloc[0])
    row = _model_row(model, fold, num_candidates=len(rows), seconds=seconds, fold_digest=digest, **facts)
    return FoldPredictions(predictions=rows, models=_models_table([row]))


def _network_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "version": checkpoint.version,
        "num_parameters": num_parameters(checkpoint),
        "training_seconds": checkpoint.training_seconds,
        "mlflow_run_id": checkpoint.mlflow_run_id,
        "recipe_digest": recipe_digest(checkpoint.config),
        "is_origin_known": not checkpoint.has_unknown_origin,
    }


def _model_row(model: str, fold: int, *, num_candidates: int, seconds: float, **facts: Any) -> dict[str, Any]:
    """Return a row of the table of models; without ``facts`` that of a baseline without parameters."""
    return {
        "model": model,
        "version": None,
        "fold": fold,
        "num_parameters": 0,
        "training_seconds": 0.0,
        "scoring_seconds": seconds,
        "candidates_per_second": num_candidates / seconds if seconds else float("nan"),
        "num_candidates": num_candidates,
        "mlflow_run_id": None,
        "recipe_digest": None,
        "index_digest": None,
        "is_origin_known": True,
        **facts,
    }


def _models_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    # The number of parameters of some estimators is unknown.
    return pd.DataFrame(rows).astype({"num_parameters": "Int64"})


def _test_rows(index: pd.DataFrame, store: CutoutSource, *, test_fold: int, dataset: str) -> pd.DataFrame:
    found = index[(index["fold"] == test_fold) & (index["source"] == "candidate")]
    if found.empty:
        folds = sorted(int(fold) for fold in index["fold"].unique())
        msg = f"A held-out fold must exist, got {test_fold} of folds {folds}. Choose one of them."
        raise ValueError(msg)
    return labelled(found, store, dataset)


def _checkpoint_named(settings: Settings, wanted: str, test_fold: int) -> Checkpoint:
    checkpoints = checkpoint_store(settings)
    name, _, version = wanted.rpartition(" ")
    if name and not checkpoints.versions(wanted):
        return load_checkpoint(checkpoints.path(name, own_version(settings, name, version, fold=test_fold)))
    try:
        version = read_current(settings, wanted, test_fold).version
    except FileNotFoundError:
        version = checkpoints.latest(wanted)
    return load_checkpoint(checkpoints.path(wanted, version))


def _check_unseen(checkpoint: Checkpoint, test: pd.DataFrame) -> None:
    if seen := sorted(seen_data(checkpoint).series & set(test["series_instance_uid"])):
        msg = (
            f"A classifier must not be tested on what it has seen, got {len(seen)} such series (the first {seen[0]}, "
            f"{checkpoint.name} {checkpoint.version}). Leave it out, or train it with this test fold."
        )
        raise ValueError(msg)
