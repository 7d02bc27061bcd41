"""LUNA16's score of several models on the same candidates and the same draws of scans, as a table."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from luna_pipeline.core.evaluation.froc import OPERATING_POINTS
from luna_pipeline.core.evaluation.official import FrocResult, evaluate_froc
from luna_pipeline.core.evaluation.reference import Reference

SENSITIVITY_COLUMNS = tuple(f"sensitivity_at_{rate:g}" for rate in OPERATING_POINTS)
FROC_COLUMNS = (
    *("model", "folds"),
    *("num_scans", "num_nodules", "num_found", "num_false_positives", "num_ignored", "num_doubles"),
    *("cpm", "cpm_lower", "cpm_upper"),
    *SENSITIVITY_COLUMNS,
    *(f"{name}_{bound}" for name in SENSITIVITY_COLUMNS for bound in ("lower", "upper")),
    "cpm_draws",
)


def evaluate_models(
    predictions: pd.DataFrame, reference: Reference, *, num_bootstraps: int, seed: int
) -> dict[str, FrocResult]:
    """Evaluate the predictions of each model by LUNA16's rules, all on the same draws of scans.

    Args:
        predictions: One row per candidate and model: ``candidate_id``, ``series_instance_uid``, ``x_mm``, ``y_mm``,
            ``z_mm``, ``model``, ``probability``.
        reference: Nodules, excluded findings and scans.
        num_bootstraps: Number of draws of scans.
        seed: Seed of the draws.

    Returns:
        Results by model, in the order of their first rows.

    Raises:
        ValueError: If the models scored different candidates.
    """
    check_same_candidates(predictions)
    return {
        str(model): evaluate_froc(reference.tables_of(rows), num_bootstraps=num_bootstraps, seed=seed)
        for model, rows in predictions.groupby("model", sort=False)
    }


def check_same_candidates(predictions: pd.DataFrame) -> None:
    """Check that all models scored the same candidates.

    Raises:
        ValueError: If a model scored other candidates than the first one.
    """
    first: tuple[str, np.ndarray] | None = None
    for model, rows in predictions.groupby("model", sort=False):
        found = np.sort(rows["candidate_id"].to_numpy())
        first = first or (str(model), found)
        if not np.array_equal(found, first[1]):
            msg = f"All models must score the same candidates, got {len(found)} of {model} and {len(first[1])} of "
            raise ValueError(f"{msg}{first[0]}. Materialize the predictions of these folds again.")


def froc_table(results: Mapping[str, FrocResult], *, folds: str) -> pd.DataFrame:
    """Return results as a table.

    Args:
        results: Results by model, see ``evaluate_models``.
        folds: Name of the folds.

    Returns:
        One row per model with ``FROC_COLUMNS``: CPM and sensitivities with 95 % bounds (nan without draws), and the CPM
        of each draw for paired comparisons.
    """
    rows = [{"model": model, "folds": folds, **_row(result)} for model, result in results.items()]
    return pd.DataFrame(rows, columns=list(FROC_COLUMNS))


def _row(result: FrocResult) -> dict[str, object]:
    counts, band, curve = result.samples.counts, result.band, result.curve
    unknown = np.full(len(OPERATING_POINTS), np.nan)
    lower, upper = (unknown, unknown) if band is None else (band.at_points(band.lower), band.at_points(band.upper))
    cpm_lower, cpm_upper = (np.nan, np.nan) if band is None else band.cpm_interval
    return {
        "num_scans": result.samples.num_scans,
        "num_nodules": counts["total_nodules"],
        "num_found": counts["true_positives"],
        "num_false_positives": counts["false_positives"],
        "num_ignored": counts["ignored_on_excluded"],
        "num_doubles": counts["ignored_double_detections"],
        "cpm": curve.cpm,
        "cpm_lower": cpm_lower,
        "cpm_upper": cpm_upper,
        **dict(zip(SENSITIVITY_COLUMNS, curve.sens_at_points.tolist(), strict=True)),
        **{f"{name}_lower": float(value) for name, value in zip(SENSITIVITY_COLUMNS, lower, strict=True)},
        **{f"{name}_upper": float(value) for name, value in zip(SENSITIVITY_COLUMNS, upper, strict=True)},
        "cpm_draws": [] if band is None else band.cpm.tolist(),
    }
