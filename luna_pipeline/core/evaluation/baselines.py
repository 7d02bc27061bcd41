"""What a classifier has to beat: the answer without looking, the answer of one glance; and what a baseline goes by."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.series_codes import rows_by_series
from luna_pipeline.core.cutouts.chunks import Chunks
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.metrics.binary import binary_metrics

if TYPE_CHECKING:
    from luna_pipeline.core.baselines.feature_model import FeatureModel

HU_WINDOW = (-1000, 1000)
MIDDLE_SIZE = 5
NUM_SHUFFLES = 5


def zero_rule(training_index: pd.DataFrame) -> float:
    """Return the share of nodules among the training candidates: the best score that looks at nothing.

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
    """Score each cutout by how dense its middle is: nodules are tissue, most of the lung is air.

    Args:
        index: Rows of the cutout index, with the columns ``series_instance_uid`` and ``row``.
        store: Where the cutouts lie.

    Returns:
        Scores (N,) in [0, 1], in the order of ``index``: the mean HU of the middle 5×5×5 voxels, 0 at the
        lower and 1 at the upper end of the HU window.
    """
    scores = np.full(len(index), np.nan)
    for uid, places in rows_by_series(index["series_instance_uid"]).items():
        rows = index["row"].to_numpy()[places]
        scores[places] = _middle_density(store.read(uid).ct_chunks, rows)
    return scores


def importances(
    model: "FeatureModel", features: NDArray[np.float64], labels: NDArray[np.int64], *, seed: int
) -> pd.DataFrame:
    """Return what each feature is worth to a fitted baseline, on candidates that it did not learn from.

    Args:
        model: The baseline.
        features: Features (N, F) of the validation part; of no candidate at all where there is none.
        labels: Their labels (N,), 0 or 1.
        seed: Decides how values are shuffled.

    Returns:
        A row a feature, with ``model``, ``feature``, ``standardised_coefficient`` (log odds a standard deviation; nan
        of a classifier that is not linear) and ``permutation_importance`` (what AUC loses when the feature's values
        are shuffled among the candidates, mean of five; nan where a class is missing). Features that say the same
        stand in for each other: of two alike, both may look worthless.

    Source:
        Breiman, Random forests, Machine Learning 45 (2001) 5-32.
    """
    coefficients = model.standardised_coefficients
    return pd.DataFrame(
        {
            "model": model.name,
            "feature": list(model.feature_names),
            "standardised_coefficient": np.nan if coefficients is None else coefficients,
            "permutation_importance": _lost_auc(model, features, labels, np.random.default_rng(seed)),
        }
    )


def _lost_auc(
    model: "FeatureModel", features: NDArray[np.float64], labels: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    if len(np.unique(labels)) < 2:
        return np.full(len(model.feature_names), np.nan)
    auc = binary_metrics(labels, model.score(features))["auc"]
    lost = np.zeros((len(model.feature_names), NUM_SHUFFLES))
    shuffled = features.copy()
    for column in range(features.shape[1]):
        for turn in range(NUM_SHUFFLES):
            shuffled[:, column] = rng.permutation(features[:, column])
            lost[column, turn] = auc - binary_metrics(labels, model.score(shuffled))["auc"]
        shuffled[:, column] = features[:, column]
    means: NDArray[np.float64] = lost.mean(axis=1)
    return means


def _middle_density(ct_chunks: Chunks, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    middles = tuple(
        slice(size // 2 - MIDDLE_SIZE // 2, size // 2 + MIDDLE_SIZE // 2 + 1) for size in ct_chunks.shape[1:]
    )
    lowest_hu, highest_hu = HU_WINDOW
    mean_hu = np.array([ct_chunks[row][middles].mean(dtype=np.float64) for row in rows])
    density: NDArray[np.float64] = np.clip((mean_hu - lowest_hu) / (highest_hu - lowest_hu), 0.0, 1.0)
    return density
