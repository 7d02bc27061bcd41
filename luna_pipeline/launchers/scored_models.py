"""What scored a test fold: a row a model, with its version, size and speed."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import Checkpoint
from luna_pipeline.launchers.baselines import FittedBaselines
from luna_pipeline.launchers.folds import recipe_digest

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
