"""Ranking of models and baselines on the same folds and candidates."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from luna_pipeline.core.evaluation.comparison import PairedDifference

LEADERBOARD_COLUMNS = (
    *("rank", "model", "folds"),
    *("cpm", "cpm_lower", "cpm_upper", "sensitivity_at_1_fp", "auc", "auc_lower", "auc_upper"),
    *("better_than_next", "cpm_gain", "cpm_gain_lower", "cpm_gain_upper"),
    *("num_parameters", "training_seconds", "candidates_per_second"),
    *("versions", "mlflow_runs", "is_origin_known", "notes"),
)


def leaderboard(
    froc: pd.DataFrame,
    report: pd.DataFrame,
    models: pd.DataFrame,
    *,
    folds: str,
    notes: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Rank models by CPM, then by AUC where the CPM is equal or undefined.

    Args:
        froc: One row per model, see ``froc_table``; empty without annotations.
        report: One row per model, see ``binary_report``: ``model``, ``auc``, ``auc_lower``, ``auc_upper``.
        models: One row per model and fold: ``model``, ``version``, ``num_parameters``, ``training_seconds``,
            ``scoring_seconds``, ``num_candidates``, ``mlflow_run_id``, ``is_origin_known``.
        folds: Name of the folds.
        notes: What must stand beside a model's scores, by model; None for nothing.

    Returns:
        One row per model, best first, with ``LEADERBOARD_COLUMNS``. ``cpm_gain`` is the CPM minus that of the next
        model, with its 95 % interval over draws of scans. ``better_than_next`` is whether the interval lies above 0;
        null for the last model. Rows whose ``is_origin_known`` is false cannot be compared fairly: the training data of
        the weights are unknown. ``training_seconds`` is the sum over folds, ``candidates_per_second`` the mean speed.
    """
    facts = pd.DataFrame([_facts(str(model), rows) for model, rows in models.groupby("model", sort=False)])
    scores = froc.rename(columns={"sensitivity_at_1": "sensitivity_at_1_fp"})
    scores = scores.drop(columns=["folds", "notes"], errors="ignore")
    table = report[["model", "auc", "auc_lower", "auc_upper"]].merge(scores, on="model", how="left")
    # Ties in the order of the names, so that the result is deterministic.
    table = table.merge(facts, on="model", how="left").sort_values("model")
    table = table.sort_values(["cpm", "auc"], ascending=False, kind="stable", na_position="last")
    table = table.reset_index(drop=True).assign(rank=np.arange(1, len(table) + 1), folds=folds)
    table["notes"] = table["model"].map(notes or {}).fillna("")
    gains = [_gain(table.iloc[place : place + 2]) for place in range(len(table))]
    return pd.concat([table, pd.DataFrame(gains)], axis=1)[list(LEADERBOARD_COLUMNS)]


def _facts(model: str, rows: pd.DataFrame) -> dict[str, str | float | int]:
    seconds = float(rows["scoring_seconds"].sum())
    return {
        "model": model,
        "num_parameters": int(rows["num_parameters"].max()),
        "training_seconds": float(rows["training_seconds"].sum(min_count=1)),
        "candidates_per_second": float(rows["num_candidates"].sum()) / seconds if seconds > 0 else np.nan,
        "versions": ", ".join(rows["version"].dropna().astype(str)),
        "mlflow_runs": ", ".join(rows["mlflow_run_id"].dropna().astype(str)),
        "is_origin_known": bool(rows["is_origin_known"].all()),
    }


def _gain(pair: pd.DataFrame) -> dict[str, bool | float | None]:
    """Compare a model with the next one; undefined for the last model."""
    gain = PairedDifference.of_draws(np.nan, [], [])
    is_better = None
    # A model that finds no nodule ranks with CPM 0; officially it is undefined.
    cpm = pair["cpm"].mask(pair["cpm"].isna() & (pair["num_nodules"] > 0), 0.0)
    if len(pair) == 2 and cpm.notna().all():
        draws = [np.asarray(values, dtype=np.float64) for values in pair["cpm_draws"]]
        gain = PairedDifference.of_draws(float(cpm.iloc[0] - cpm.iloc[1]), *draws)
        is_better = gain.is_better
    return {
        "better_than_next": is_better,
        "cpm_gain": gain.difference,
        "cpm_gain_lower": gain.lower,
        "cpm_gain_upper": gain.upper,
    }
