"""Models and baselines on the same folds and candidates, best first, and whether each is better than the next."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from luna_pipeline.core.evaluation.comparison import paired_difference
from luna_pipeline.core.evaluation.froc import OPERATING_POINTS
from luna_pipeline.core.evaluation.official import FrocResult, evaluate_froc
from luna_pipeline.core.evaluation.reference import Reference

LEADERBOARD_COLUMNS = (
    "rank",
    "model",
    "folds",
    "cpm",
    "cpm_lower",
    "cpm_upper",
    "sensitivity_at_1_fp",
    "auc",
    "auc_lower",
    "auc_upper",
    "better_than_next",
    "cpm_gain",
    "cpm_gain_lower",
    "cpm_gain_upper",
    "num_parameters",
    "training_seconds",
    "candidates_per_second",
    "versions",
    "mlflow_runs",
)
_AT_1_FP = OPERATING_POINTS.index(1.0)


def evaluate_models(
    predictions: pd.DataFrame, reference: Reference, *, num_bootstraps: int, seed: int
) -> dict[str, FrocResult]:
    """Evaluate the pooled predictions of each model as LUNA16 does, all on the same draws of scans.

    Args:
        predictions: A row a candidate and model: ``candidate_id``, ``series_instance_uid``, ``x_mm``, ``y_mm``,
            ``z_mm``, ``model``, ``probability``.
        reference: What they are held against.
        num_bootstraps: Draws of scans.
        seed: Of the draws.

    Returns:
        The result of each model, in the order in which they first come.

    Raises:
        ValueError: If the models have scored different candidates.
    """
    check_same_candidates(predictions)
    return {
        str(model): evaluate_froc(reference.tables_of(rows), num_bootstraps=num_bootstraps, seed=seed)
        for model, rows in predictions.groupby("model", sort=False)
    }


def check_same_candidates(predictions: pd.DataFrame) -> None:
    """Refuse models that were not given the same candidates.

    Args:
        predictions: A row a candidate and model.

    Raises:
        ValueError: If a model has scored others than the first one.
    """
    first: tuple[str, np.ndarray] | None = None
    for model, rows in predictions.groupby("model", sort=False):
        found = np.sort(rows["candidate_id"].to_numpy())
        first = first or (str(model), found)
        if not np.array_equal(found, first[1]):
            msg = f"All models must score the same candidates, got {len(found)} of {model} and {len(first[1])} of "
            raise ValueError(f"{msg}{first[0]}. Materialize the predictions of these folds again.")


def leaderboard(
    results: Mapping[str, FrocResult], report: pd.DataFrame, models: pd.DataFrame, *, folds: str
) -> pd.DataFrame:
    """Rank models by their CPM, by AUC where it is equal or undefined.

    Args:
        results: Evaluation of each model, with draws of scans; empty where there are no annotations.
        report: A row a model, see ``binary_report``.
        models: A row a model and fold: ``model``, ``version``, ``num_parameters``, ``training_seconds``,
            ``scoring_seconds``, ``num_candidates``, ``mlflow_run_id``.
        folds: Which folds these are, in words.

    Returns:
        A row a model, best first, with ``LEADERBOARD_COLUMNS``. ``cpm_gain`` is the CPM less that of the next model,
        with its 95 % interval over draws of scans; ``better_than_next`` says whether that lies above 0 (null of the
        last model). ``training_seconds`` is the sum over folds, ``candidates_per_second`` the mean speed of scoring.
    """
    facts = pd.DataFrame([_facts(str(model), rows) for model, rows in models.groupby("model", sort=False)])
    scores = report[["model", "auc", "auc_lower", "auc_upper"]]
    rows = pd.DataFrame([_froc_row(model, results.get(model)) for model in report["model"]])
    table = rows.merge(scores, on="model").merge(facts, on="model", how="left").assign(folds=folds)
    # Of equals by name, so that the order of the rows decides nothing.
    table = table.sort_values("model").sort_values(["cpm", "auc"], ascending=False, kind="stable", na_position="last")
    table = table.reset_index(drop=True).assign(rank=np.arange(1, len(table) + 1))
    gains = pd.DataFrame(_gains(list(table["model"]), results))
    return pd.concat([table, gains], axis=1)[list(LEADERBOARD_COLUMNS)]


def _froc_row(model: str, result: FrocResult | None) -> dict[str, str | float]:
    lower, upper = result.band.cpm_interval if result and result.band else (np.nan, np.nan)
    return {
        "model": model,
        "cpm": result.curve.cpm if result else np.nan,
        "cpm_lower": lower,
        "cpm_upper": upper,
        "sensitivity_at_1_fp": float(result.curve.sens_at_points[_AT_1_FP]) if result else np.nan,
    }


def _facts(model: str, rows: pd.DataFrame) -> dict[str, str | float | int]:
    seconds = float(rows["scoring_seconds"].sum())
    return {
        "model": model,
        "num_parameters": int(rows["num_parameters"].max()),
        "training_seconds": float(rows["training_seconds"].sum(min_count=1)),
        "candidates_per_second": float(rows["num_candidates"].sum()) / seconds if seconds > 0 else np.nan,
        "versions": ", ".join(rows["version"].dropna().astype(str)),
        "mlflow_runs": ", ".join(rows["mlflow_run_id"].dropna().astype(str)),
    }


def _gains(ordered: Sequence[str], results: Mapping[str, FrocResult]) -> list[dict[str, bool | float | None]]:
    """Compare each model with the next one."""
    gains: list[dict[str, bool | float | None]] = []
    for model, following in zip(ordered, [*ordered[1:], None], strict=True):
        if following is None or not {model, following} <= set(results):
            gains.append(
                {"better_than_next": None, "cpm_gain": np.nan, "cpm_gain_lower": np.nan, "cpm_gain_upper": np.nan}
            )
            continue
        gain = paired_difference(results[model], results[following])
        gains.append(
            {
                "better_than_next": gain.is_better,
                "cpm_gain": gain.difference,
                "cpm_gain_lower": gain.lower,
                "cpm_gain_upper": gain.upper,
            }
        )
    return gains
