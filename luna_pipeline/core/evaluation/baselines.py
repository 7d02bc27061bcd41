"""What a classifier has to beat: the answer without looking, and the answer of one glance at the middle."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.candidates.series_codes import rows_by_series
from luna_pipeline.core.cutouts.chunks import Chunks
from luna_pipeline.core.cutouts.store import CutoutSource

HU_WINDOW = (-1000, 1000)
MIDDLE_SIZE = 5


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


def _middle_density(ct_chunks: Chunks, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    middles = tuple(slice(size // 2 - MIDDLE_SIZE // 2, size // 2 + MIDDLE_SIZE // 2 + 1)
                    for size in ct_chunks.shape[1:])  # fmt: skip
    lowest_hu, highest_hu = HU_WINDOW
    mean_hu = np.array([ct_chunks[row][middles].mean(dtype=np.float64) for row in rows])
    density: NDArray[np.float64] = np.clip((mean_hu - lowest_hu) / (highest_hu - lowest_hu), 0.0, 1.0)
    return density
