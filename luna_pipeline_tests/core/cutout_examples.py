"""Small cutouts that a small network can tell apart, as files and index rows."""

from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.fingerprint import Fingerprint
from luna_pipeline.core.cutouts.store import CutoutStore, SeriesCutouts, build_header

SHAPE_IRC = (8, 8, 8)
FOLDS = {"1.10": 0, "1.11": 1, "1.12": 2, "1.13": 2}


def write_examples(
    root: Path,
    *,
    folds: dict[str, int] = FOLDS,
    num_per_series: int = 6,
    shape_irc: tuple[int, int, int] = SHAPE_IRC,
    ratings: tuple[bool | None, ...] = (None,),
) -> tuple[pd.DataFrame, CutoutStore]:
    """Write a file of cutouts a series, a third of them with a dense ball in the middle, and return the
    index.

    Args:
        root: Folder of the store.
        folds: Fold of each series.
        num_per_series: Cutouts of a series.
        shape_irc: Voxels of a cutout.
        ratings: Whether the nodules of a series are malignant, the first, the second, ..., over and over again; None
            is unrated. The ball of a malignant one is denser.

    Returns:
        Index rows as ``build_cutout_index`` makes them, and the store.
    """
    store = CutoutStore(root)
    tables = [
        _write_series(store, uid, fold, number * 1000, num_per_series, shape_irc, ratings)
        for number, (uid, fold) in enumerate(folds.items())
    ]
    return pd.concat(tables, ignore_index=True), store


def _write_series(store, uid, fold, first_id, count, shape_irc, ratings) -> pd.DataFrame:
    rng = np.random.default_rng(first_id)
    labels = (np.arange(count) % 3 == 0).astype(np.int8)
    distance = np.linalg.norm(np.indices(shape_irc) - np.reshape(shape_irc, (3, 1, 1, 1)) // 2, axis=0)
    chunks = rng.normal(-800, 60, size=(count, *shape_irc))
    is_ball = distance < min(shape_irc) / 4
    chunks[labels == 1] += 700 * is_ball
    is_malignant = pd.array([None] * count, dtype="boolean")
    is_malignant[labels == 1] = list(islice(cycle(ratings), int(labels.sum())))
    chunks[is_malignant.fillna(False).astype(bool)] += 300 * is_ball
    fingerprint = Fingerprint(ct=uid, rows="rows", parameters="parameters", code="1")
    grid = VoxelGrid((90, 90, 90), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    parameters = CuttingParameters(chunk_shape_irc=shape_irc)
    ids = first_id + np.arange(count, dtype=np.int64)
    cutouts = SeriesCutouts(
        ct_chunks=np.clip(chunks, -1000, 1000).astype(np.int16),
        center_irc=np.zeros((count, 3), dtype=np.int32),
        center_xyz=np.zeros((count, 3)),
        candidate_id=ids,
        header=build_header(uid, grid=grid, parameters=parameters, fingerprint=fingerprint),
    )
    store.write(uid, cutouts)
    return pd.DataFrame(
        {
            "candidate_id": ids,
            "series_instance_uid": uid,
            "row": np.arange(count),
            "class": labels,
            "is_malignant": is_malignant,
            "diameter_mm": np.nan,
            "source": "candidate",
            "fold": fold,
            "fingerprint": fingerprint.digest,
        }
    )
