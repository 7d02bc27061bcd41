"""LUNA16's scores of pooled folds, for reports, leaderboard and champion."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from luna_pipeline.core.candidates.submission import write_submission
from luna_pipeline.core.evaluation.froc_table import evaluate_models, froc_table
from luna_pipeline.core.evaluation.official import FrocResult
from luna_pipeline.core.evaluation.reference import Reference, read_reference
from luna_pipeline.core.storage.files import AnyPath
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.launchers.data_sources import tables_root
from luna_pipeline.launchers.evaluation.pooling import PooledPredictions
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.settings import Settings


@dataclass(frozen=True, eq=False, kw_only=True)
class OfficialScores:
    """LUNA16's score of every model that has scored all pooled folds.

    Attributes:
        results: FROC by model; empty without annotations.
        table: One row per model, see ``froc_table`` and ``PooledPredictions.noted``.
        notes: Limitations of the scores, one sentence each.
    """

    results: dict[str, FrocResult]
    table: pd.DataFrame
    notes: tuple[str, ...]


def official_scores(settings: Settings, pooled: PooledPredictions, *, num_bootstraps: int, seed: int) -> OfficialScores:
    """Evaluate pooled predictions with LUNA16's metric.

    Args:
        settings: Paths of LUNA16's tables.
        pooled: The predictions.
        num_bootstraps: Bootstrap draws of scans.
        seed: Seed of the draws.

    Raises:
        ValueError: If models have scored different candidates of a fold.
    """
    reference, notes = reference_of(settings, pooled.folds.folds), tuple(pooled.left_out.values())
    if reference is None or not reference.scans:
        lacking = "no annotations.csv" if reference is None else "no scan of these folds in seriesuids.csv"
        none = f"There is {lacking}: without nodules to be found there is no FROC."
        return OfficialScores(results={}, table=_table({}, pooled), notes=(*notes, none))
    results = evaluate_models(pooled.predictions, reference, num_bootstraps=num_bootstraps, seed=seed)
    return OfficialScores(results=results, table=_table(results, pooled), notes=(*notes, *reference.notes))


def reference_of(settings: Settings, folds: list[int]) -> Reference | None:
    """Return the reference for predictions of these folds; None without annotations."""
    return read_reference(tables_root(settings), read_table(settings, "folds"), of_folds=folds)


def write_pooled_submission(settings: Settings, pooled: PooledPredictions, model: str) -> AnyPath:
    """Write a model's scores of all pooled folds as one submission, ``submissions/<model>/<folds>.csv``."""
    name = pooled.folds.title.replace(",", "").replace(" ", "_")
    path = settings.home / "submissions" / model / f"{name}.csv"
    write_submission(path, pooled.predictions[pooled.predictions["model"] == model])
    return path


def pooled_checkpoints(settings: Settings, pooled: PooledPredictions) -> Iterator[tuple[int, Checkpoint]]:
    """Yield each pooled fold with its classifier; only one checkpoint is in memory at a time."""
    for classifier in pooled.folds.classifiers:
        yield classifier.test_fold, load_checkpoint(settings.home / classifier.path)


def _table(results: dict[str, FrocResult], pooled: PooledPredictions) -> pd.DataFrame:
    return pooled.noted(froc_table(results, folds=pooled.folds.title))
