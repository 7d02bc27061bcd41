"""Scores of a trained classifier, and the rows of the table of predictions."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from luna_pipeline.core.candidates.matching import POINT_COLUMNS
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, identity
from luna_pipeline.core.datasets.loading_workers import fitting_workers, prepare_worker
from luna_pipeline.core.distributed import SINGLE_PROCESS
from luna_pipeline.core.evaluation.report import DECISION_COLUMNS, PREDICTION_COLUMNS
from luna_pipeline.core.metrics.decision import UNDECIDED, Decision
from luna_pipeline.core.models.scoring import predict
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import Checkpoint

SCORING_BATCH_SIZE = 64


def score(
    checkpoint: Checkpoint,
    index: pd.DataFrame,
    store: CutoutSource,
    *,
    batch_size: int = SCORING_BATCH_SIZE,
    num_workers: int = 0,
    on_batch: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Score candidates in evaluation mode, without augmentation or balancing.

    Args:
        checkpoint: A trained classifier.
        index: Rows of the cutout index.
        store: Source of the cutouts.
        batch_size: Cutouts per batch.
        num_workers: Number of loading processes; 0 loads in this one.
        on_batch: Called after each batch with the numbers of finished and of all candidates.

    Returns:
        Probability of a nodule (or of a malignant one), float64 (N,), in the order of ``index``.

    Raises:
        ValueError: If the cutouts are not of the network's shape, or not those of the index.
        CheckpointError: If weights and configuration do not fit each other.
        FileNotFoundError: If a series was not cut.
    """
    # The data sets of nodules and of malignancy differ in their labels, which scoring does not need.
    dataset = CutoutsDataset(index, store)
    expected = checkpoint.config.network.chunk_shape_irc
    if dataset.chunk_shape_irc != expected:
        msg = f"Cutouts must have the shape of the network's input {expected}, got {dataset.chunk_shape_irc}"
        raise ValueError(f"{msg} ({checkpoint.name} {checkpoint.version}). Cut them in that shape.")
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=fitting_workers(num_workers, batch_bytes=4 * batch_size * math.prod(expected)),
        worker_init_fn=prepare_worker,
        collate_fn=identity,
        # Without a generator a loader draws from torch's global random numbers.
        generator=torch.Generator(),
    )
    network = network_of(checkpoint).to(SINGLE_PROCESS.device)
    return predict(network, _reported(loader, len(dataset), on_batch))[1]


def predict_table(
    checkpoint: Checkpoint,
    index: pd.DataFrame,
    candidates: pd.DataFrame,
    store: CutoutSource,
    *,
    model: str | None = None,
) -> pd.DataFrame:
    """Score candidates and return them as rows of the table of predictions, see ``score`` and ``prediction_rows``.

    ``model`` is the classifier's name in the table; None for the checkpoint's name.
    """
    scores = score(checkpoint, index, store)
    return prediction_rows(index, candidates, scores, model=model or checkpoint.name, decision=checkpoint.decision)


def prediction_rows(
    index: pd.DataFrame,
    candidates: pd.DataFrame,
    probability: NDArray[np.float64] | float,
    *,
    model: str,
    decision: Decision = UNDECIDED,
) -> pd.DataFrame:
    """Return scores as rows of the table of predictions.

    Args:
        index: Rows of the cutout index.
        candidates: The candidate table: ``candidate_id``, ``x_mm``, ``y_mm``, ``z_mm``.
        probability: A score for each row of ``index``, or one for all.
        model: Name of the model that computed the scores.
        decision: Thresholds and calibration from the model's validation fold; by default thresholds of 0.5 and no
            calibration.

    Returns:
        One row per candidate, in the order of ``index``: ``PREDICTION_COLUMNS`` and ``DECISION_COLUMNS``.
        ``calibrated`` is the probability by the calibration that ``decision`` has chosen, nan without one.

    Raises:
        ValueError: If a candidate of the index is not in the table.
    """
    positions = candidates.set_index("candidate_id")[POINT_COLUMNS]
    missing = ~index["candidate_id"].isin(positions.index)
    if missing.any():
        msg = f"Every candidate of the index must be in the table, got {int(missing.sum())} that are not"
        uid = index.loc[missing, "series_instance_uid"].iloc[0]
        raise ValueError(f"{msg} (the first of series {uid}). Materialize `cutout_index` again.")
    rows = index[["candidate_id", "series_instance_uid", "class", "fold"]].reset_index(drop=True)
    scores = np.broadcast_to(np.asarray(probability, dtype=np.float64), len(rows)).copy()
    rows = rows.join(positions, on="candidate_id").assign(
        model=model,
        probability=scores,
        threshold=decision.threshold,
        threshold_f1=decision.threshold_f1,
        threshold_sensitivity=decision.threshold_sensitivity,
        calibrated=decision.calibrated(scores),
    )
    return rows[[*PREDICTION_COLUMNS, *DECISION_COLUMNS]]


def _reported(
    loader: DataLoader[CutoutBatch], num_candidates: int, on_batch: Callable[[int, int], None] | None
) -> Iterator[CutoutBatch]:
    done = 0
    for batch in loader:
        yield batch
        # The consumer requests the next batch after it has scored this one.
        done += len(batch.candidate_id)
        if on_batch is not None:
            on_batch(done, num_candidates)


def labelled(index: pd.DataFrame, store: CutoutSource, dataset: str) -> pd.DataFrame:
    """Return the rows of the index that a data set can use, with its labels as ``class``.

    Args:
        index: The cutout index.
        store: Source of the cutouts; must match the index.
        dataset: A name of ``DATASETS``.
    """
    kind = DATASETS.get(dataset)
    data = kind(kind.usable(index), store)
    rows: pd.DataFrame = data.index.assign(**{"class": data.labels.astype(np.int8)})
    return rows
