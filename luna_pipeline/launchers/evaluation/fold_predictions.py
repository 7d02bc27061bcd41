"""What classifiers are worth on the test fold that none of them has seen."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.splits import fold_fingerprint, index_fingerprint
from luna_pipeline.core.evaluation.baselines import middle_hu, zero_rule
from luna_pipeline.core.evaluation.submission import write_submission
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

MODEL_COLUMNS = (
    "model",
    "version",
    "fold",
    "num_parameters",
    "training_seconds",
    "scoring_seconds",
    "candidates_per_second",
    "num_candidates",
    "mlflow_run_id",
    "recipe_digest",
    "is_origin_known",
    "fold_digest",
)
NO_FACTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldPredictions:
    """A test fold as some models judge it.

    Attributes:
        predictions: A row a candidate and model: ``PREDICTION_COLUMNS`` and ``DECISION_COLUMNS``.
        models: A row a model: ``MODEL_COLUMNS``. Baselines have no version, MLflow run and recipe; ``fold_digest`` says
            which candidates were scored, see ``fold_fingerprint``.
    """

    predictions: pd.DataFrame
    models: pd.DataFrame


def scored(score: Callable[[], pd.DataFrame], facts: Mapping[str, Any] = NO_FACTS) -> FoldPredictions:
    """Score a fold, with the time that it takes.

    Args:
        score: Gives a row a candidate, of one model.
        facts: What else the table of models says of it; 0 and nothing by default.
    """
    started = time.perf_counter()
    rows = score()
    seconds = time.perf_counter() - started
    model, fold = str(rows["model"].iloc[0]), int(rows["fold"].iloc[0])
    row = _model_row(model, fold, num_candidates=len(rows), seconds=seconds, **facts)
    return FoldPredictions(predictions=rows, models=_models([row]))


def network_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the table of models says of a network."""
    return {
        "version": checkpoint.version,
        "num_parameters": sum(parameter.numel() for parameter in network_of(checkpoint).parameters()),
        "training_seconds": checkpoint.training_seconds,
        "mlflow_run_id": checkpoint.mlflow_run_id,
        "recipe_digest": recipe_digest(checkpoint.config),
        "is_origin_known": not checkpoint.has_unknown_origin,
    }


def models_of_baselines(fitted: FittedBaselines) -> pd.DataFrame:
    """Return fitted baselines as rows of the table of models; making the features is nearly all of their scoring."""
    (fold,) = fitted.predictions["fold"].unique()
    num_candidates = fitted.num_candidates["test"]
    rows = (
        _model_row(
            baseline.model.name,
            int(fold),
            num_candidates=num_candidates,
            seconds=num_candidates / fitted.candidates_per_second,
            num_parameters=baseline.num_parameters,
            training_seconds=baseline.training_seconds,
            fold_digest=fitted.fold_digest,
        )
        for baseline in fitted.baselines
    )
    return _models(rows)


def _models(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    # Not every estimator can count its parameters.
    return pd.DataFrame(rows, columns=list(MODEL_COLUMNS)).astype({"num_parameters": "Int64"})


def _model_row(model: str, fold: int, *, num_candidates: int, seconds: float, **facts: Any) -> dict[str, Any]:
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
        "is_origin_known": True,
        "fold_digest": "",
        **facts,
    }


ZERO_RULE, MIDDLE_HU = "zero_rule_baseline", "middle_hu"
TUNED_CLASSIFIER = "tuned_nodule_classifier"


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
    """Score every candidate of the test fold by each classifier and by what it has to beat.

    Args:
        index: The cutout index.
        candidates: The candidate table, for the positions.
        store: Where the cutouts lie.
        test_fold: The fold that is scored.
        classifiers: Classifiers by the names that they get in the tables.
        dataset: The task: ``cutouts`` nodules, ``malignant_cutouts`` malignant ones.
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


def training_share(index: pd.DataFrame, store: CutoutSource, checkpoint: Checkpoint) -> float:
    """Return the score of the zero rule: the share of class 1 in the series that a classifier has learned from.

    Args:
        index: The cutout index.
        store: Where the cutouts lie.
        checkpoint: The classifier, which determines the task.
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


def _same_cutouts(baselines: FoldPredictions, test: pd.DataFrame, fold_digest: str) -> FoldPredictions:
    """Return the judgement of baselines, if they have judged these very cutouts."""
    same_test_fold(baselines.predictions, test)
    others = baselines.models.loc[baselines.models["fold_digest"] != fold_digest, "model"]
    if len(others):
        msg = f"Baselines and networks must be tested on the same cutouts, got others ({', '.join(others)})."
        raise ValueError(f"{msg} Materialize `feature_baseline` again with the networks' test fold.")
    return baselines


def _test_rows(index: pd.DataFrame, store: CutoutSource, *, test_fold: int, dataset: str) -> pd.DataFrame:
    found = index[(index["fold"] == test_fold) & (index["source"] == "candidate")]
    if found.empty:
        folds = sorted(int(fold) for fold in index["fold"].unique())
        msg = f"A held-out fold must exist, got {test_fold} of folds {folds}. Choose one of them."
        raise ValueError(msg)
    return labelled(found, store, dataset)


def _further(settings: Settings, wanted: str, test_fold: int) -> Checkpoint:
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
    seen = sorted(seen_data(checkpoint).series & set(test["series_instance_uid"]))
    if seen:
        msg = (
            f"A classifier must not be tested on what it has seen, got {len(seen)} such series (the first {seen[0]}, "
            f"{checkpoint.name} {checkpoint.version}). Leave it out, or train it with this test fold."
        )
        raise ValueError(msg)


def same_test_fold(baselines: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Return predictions of baselines that were made elsewhere, if they are of these very candidates.

    A baseline learns from other folds than the one it scores, so it has not seen what both agree on.

    Args:
        baselines: Their predictions, see ``FittedBaselines``.
        test: Rows of the cutout index that the networks are tested on.

    Raises:
        ValueError: If a baseline has scored other candidates, or by other labels or folds.
    """
    columns = ["candidate_id", "class", "fold"]
    expected = test[columns].astype("int64").sort_values("candidate_id").to_numpy()
    for name, rows in baselines.groupby("model", sort=False):
        found = rows[columns].astype("int64").sort_values("candidate_id").to_numpy()
        if not np.array_equal(found, expected):
            msg = (
                f"Baselines and networks must be tested on the same candidates, got {len(found)} of folds "
                f"{np.unique(found[:, 2]).tolist()} and {len(expected)} of folds {np.unique(expected[:, 2]).tolist()} "
                f"({name}). Materialize `feature_baseline` again with the networks' test fold."
            )
            raise ValueError(msg)
    return baselines
