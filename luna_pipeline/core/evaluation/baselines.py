"""Reference scores without training (zero rule, HU of the middle), and feature importances of the baselines."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.series_codes import rows_by_series
from luna_pipeline.core.cutouts.chunks import Chunks
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.metrics.binary import area_under_curve

if TYPE_CHECKING:
    from luna_pipeline.core.baselines.feature_model import FeatureModel

HU_WINDOW = (-1000, 1000)
MIDDLE_SIZE = 5
NUM_SHUFFLES = 5


def zero_rule(training_index: pd.DataFrame) -> float:
    """Return the share of nodules among the training candidates: the best constant score.

    Args:
        training_index: Rows of the cutout index, with the column ``class`` (0 or 1).

    Raises:
        ValueError: If there are no rows.
    """
    if training_index.empty:
        msg = "The zero rule needs at least one training candidate, got none. Choose another fold."
        raise ValueError(msg)
    return float(training_index["class"].mean())


def middle_hu(index: pd.DataFrame, store: CutoutSource) -> NDArray[np.float64]:
    """Return the density of each cutout's middle as a score: nodules are tissue, most of the lung is air.

    Args:
        index: Rows of the cutout index, with the columns ``series_instance_uid`` and ``row``.
        store: Reads the cutouts.

    Returns:
        Scores (N,) in [0, 1], in the order of ``index``: the mean of the middle 5×5×5 voxels, scaled from the
        HU window to [0, 1].
    """
    scores = np.full(len(index), np.nan)
    for uid, places in rows_by_series(index["series_instance_uid"]).items():
        scores[places] = _middle_density(store.read(uid).ct_chunks, index["row"].to_numpy()[places])
    return scores


def importances(
    model: "FeatureModel", features: NDArray[np.float64], labels: NDArray[np.int64], *, seed: int
) -> pd.DataFrame:
    """Return the importance of each feature of a fitted baseline, on candidates it was not trained on.

    Args:
        model: The baseline.
        features: Features (N, F) of the validation part; N may be 0.
        labels: True classes (N,), 0 or 1.
        seed: Seed of the permutations.

    Returns:
        One row per feature: ``model``, ``feature``, ``standardised_coefficient`` (log odds per standard deviation; nan
        for a non-linear classifier) and ``permutation_importance`` (drop of the AUC when the feature is permuted, mean
        of five; nan where a class is missing). Correlated features replace each other: each may have a low importance.

    Source:
        Breiman, Random forests, Machine Learning 45 (2001) 5-32.
    """
    coefficients = model.standardised_coefficients
    return pd.DataFrame(
        {
            "model": model.name,
            "feature": list(model.feature_names),
            "standardised_coefficient": np.nan if coefficients is None else coefficients,
            "permutation_importance": _permutation_importance(model, features, labels, np.random.default_rng(seed)),
        }
    )


def _permutation_importance(
    model: "FeatureModel", features: NDArray[np.float64], labels: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    if len(np.unique(labels)) < 2:
        return np.full(len(model.feature_names), np.nan)
    auc = area_under_curve(labels, model.score(features))
    drops = np.zeros((len(model.feature_names), NUM_SHUFFLES))
    shuffled = features.copy()
    for column in range(features.shape[1]):
        for repeat in range(NUM_SHUFFLES):
            shuffled[:, column] = rng.permutation(features[:, column])
            drops[column, repeat] = auc - area_under_curve(labels, model.score(shuffled))
        shuffled[:, column] = features[:, column]
    return np.asarray(drops.mean(axis=1))


def _middle_density(ct_chunks: Chunks, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    half = MIDDLE_SIZE // 2
    middles = tuple(slice(size // 2 - half, size // 2 + half + 1) for size in ct_chunks.shape[1:])
    lowest_hu, highest_hu = HU_WINDOW
    mean_hu = np.array([ct_chunks[row][middles].mean(dtype=np.float64) for row in rows])
    return np.asarray(np.clip((mean_hu - lowest_hu) / (highest_hu - lowest_hu), 0.0, 1.0))
