"""Scores of any classifier on any cutouts, written as a submission."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from luna_pipeline.core.candidates.submission import write_submission
from luna_pipeline.core.cutouts.index import centers_xyz, index_of_files
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.core.training.config import StartConfig
from luna_pipeline.launchers.evaluation.scoring import score
from luna_pipeline.launchers.installation import checkpoint_store, cutout_source, cutouts_in, read_index, sample_of
from luna_pipeline.launchers.seen_data import seen_data
from luna_pipeline.launchers.training.initial_weights import full_name, load_source
from luna_pipeline.settings import Settings


@dataclass(frozen=True, kw_only=True)
class PredictionRequest:
    """Classifier, cutouts and output of a prediction.

    Attributes:
        name: Name of a run or a registered model, or path of a checkpoint.
        out: Path of the submission.
        version: The classifier's version; None for the newest one, and for a path.
        loader: ``file`` or ``mlflow``.
        cutouts: ``stored`` or ``on_the_fly`` for the candidates of the installation (``cutout_source``); or a folder
            with cutout files, all of whose rows are scored.
        fold: Only candidates of this fold of the installation; None for all.
        num_workers: Number of loading processes; 0 loads in this one.
        verify: Whether the bytes of each cutout file are compared with their checksums before it is first read.
    """

    name: str
    out: Path
    version: str | None = None
    loader: str = "file"
    cutouts: Path | str = "stored"
    fold: int | None = None
    num_workers: int = 0
    verify: bool = True


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Result of a prediction.

    Attributes:
        checkpoint: The classifier.
        num_candidates: Rows of the submission.
        num_series: Series of the submission.
        num_seen_series: Series that the classifier has seen in training or validation, as far as is known.
        left_out: Reason by name of each entry of a folder of cutouts that is no cutout file.
        sample: How many of the installation's candidates were scored, in words; empty for all, or for a folder.
    """

    checkpoint: Checkpoint
    num_candidates: int
    num_series: int
    num_seen_series: int
    left_out: dict[str, str] = field(default_factory=dict)
    sample: str = ""


def predict(
    settings: Settings, request: PredictionRequest, *, on_batch: Callable[[int, int], None] | None = None
) -> Prediction:
    """Score cutouts and write the scores as a submission, atomically.

    Args:
        settings: The installation.
        request: Classifier, cutouts and output.
        on_batch: Called after each batch with the numbers of finished and of all candidates.

    Raises:
        FileNotFoundError: If there is no such classifier, or nothing to score.
        ValueError: If cutouts and network do not fit each other, or a cutout file is damaged.
    """
    settings = replace(settings, verifies_reads=settings.verifies_reads and request.verify)
    left_out: dict[str, str] = {}
    sample = ""
    checkpoint = find_checkpoint(settings, request.name, request.version, loader=request.loader)
    store: CutoutSource
    if isinstance(request.cutouts, str):
        store = cutout_source(settings, request.cutouts)
        index = _candidates(settings, request.fold)
        sample = sample_of(settings, index)
    else:
        files = store = cutouts_in(settings, request.cutouts)
        uids, left_out = files.uids(), files.odd_entries()
        if not uids:
            msg = f"The folder must hold files of cutouts, got none (in {request.cutouts}). Run `luna create_cutouts`."
            raise FileNotFoundError(msg)
        index = index_of_files(store, uids)
    scores = score(checkpoint, index, store, num_workers=request.num_workers, on_batch=on_batch)
    x_mm, y_mm, z_mm = centers_xyz(index, store).T
    write_submission(request.out, index.assign(x_mm=x_mm, y_mm=y_mm, z_mm=z_mm, probability=scores))
    series = set(index["series_instance_uid"])
    return Prediction(
        checkpoint=checkpoint,
        num_candidates=len(index),
        num_series=len(series),
        num_seen_series=len(series & seen_data(checkpoint).series),
        left_out=left_out,
        sample=sample,
    )


def find_checkpoint(settings: Settings, name: str, version: str | None, *, loader: str = "file") -> Checkpoint:
    """Load a classifier.

    Args:
        settings: Paths of checkpoints and MLflow.
        name: Name of a run (the original project's names too) or a registered model, or path of a checkpoint.
        version: The classifier's version; None for the newest finished one.
        loader: ``file`` or ``mlflow``.

    Raises:
        FileNotFoundError: If there is no such classifier.
        ValueError: If a registered model's version is not given.
    """
    if version is None and loader == "file" and name.endswith(".pt"):
        return load_checkpoint(Path(name))
    store = checkpoint_store(settings)
    name = full_name(name)
    if version is None and loader == "mlflow":
        msg = f"A registered model must have a version, got none ({name}). Give one, or an alias such as @champion."
        raise ValueError(msg)
    start = StartConfig(loader=loader, name=name, version=version or store.latest(name))
    return load_source(start, checkpoints=store, tracking_uri=settings.mlflow_tracking_uri)


def _candidates(settings: Settings, fold: int | None) -> pd.DataFrame:
    """Return the detector's candidates, without annotated centres."""
    index = read_index(settings)
    index = index[index["source"] == "candidate"]
    folds = sorted(int(number) for number in index["fold"].unique())
    if fold is not None and fold not in folds:
        msg = f"A fold must exist, got {fold} of folds {folds}. Choose one of them."
        raise ValueError(msg)
    return index if fold is None else index[index["fold"] == fold]
