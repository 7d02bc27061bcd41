"""Training on the data of an installation, as the command line, torchrun's processes and other programs call it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from luna_pipeline.core.config.json_files import read_json_object
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.masks import CropSource
from luna_pipeline.core.datasets.splits import TrainingSplit, default_split
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext, distributed_context
from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.training.building import build_data_module
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.core.training.config import StartConfig, TrainingConfig
from luna_pipeline.core.training.recipes import recipe_by_name
from luna_pipeline.launchers.installation import (
    checkpoint_store,
    cutout_source,
    mlflow_opener,
    read_index,
    read_table,
)
from luna_pipeline.launchers.seen_data import unseen_fold
from luna_pipeline.launchers.training.classifier import LunaClassificationLauncher
from luna_pipeline.launchers.training.initial_weights import full_name
from luna_pipeline.launchers.training.places import LunaSegmentationLauncher, segmentation_data
from luna_pipeline.launchers.training.run import RunOptions, TrainedClassifier
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import OpenMlflowRun


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What to train, on which folds, and how.

    Attributes:
        config: Complete configuration of the run.
        test_fold: Fold held out for the test; None for the first one.
        validation_fold: Fold that selects epoch and threshold; None for the one after the test fold, or for none if
            the data have two folds.
        start: Run with the initial weights, to be looked up; None for the weights that ``config`` names.
        head_only: Whether to train the last layer only, see ``LunaClassificationLauncher.load_fit``.
        resume: Whether to resume an unfinished run of the same configuration and data.
        resume_version: Version of the run to resume; None for the newest that matches.
        uses_mlflow: Whether to log to MLflow.
        tags: Further tags of the MLflow run that `train` opens.
        options: Options that do not affect the result.
    """

    config: TrainingConfig
    test_fold: int | None = None
    validation_fold: int | None = None
    start: StartConfig | None = None
    head_only: bool | None = None
    resume: bool = True
    resume_version: str | None = None
    uses_mlflow: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)
    options: RunOptions = field(default_factory=RunOptions)


def configured(recipe: str, file: Path | None, changes: Mapping[str, Any]) -> TrainingConfig:
    """Return the configuration of a recipe or a file, with changes.

    Args:
        recipe: Name of a recipe.
        file: JSON file of a complete configuration (``TrainingConfig.to_dict``), used instead of the recipe.
        changes: Values by their places, such as ``network.dropout_rate``; None keeps the value.

    Raises:
        ValueError: If a name, a place or a value is not allowed.
        TypeError: If a value has the wrong type.
    """
    config = recipe_by_name(recipe) if file is None else _read_config(file)
    return config.with_changes({place: value for place, value in changes.items() if value is not None})


def train(settings: Settings, request: TrainingRequest) -> TrainedClassifier:
    """Train a classifier or segmenter on the data of an installation, in one process or as one of torchrun's processes.

    Args:
        settings: Paths of the installation.
        request: What to train.

    Raises:
        FileNotFoundError: If nothing has been cut yet, or the run with the initial weights does not exist.
        ValueError: If configuration, folds and data do not match.
    """
    with distributed_context() as processes:
        index, store = training_data(settings, request)
        return train_on(
            settings,
            request,
            index=index,
            store=store,
            open_mlflow_run=mlflow_opener(settings, tags=request.tags) if request.uses_mlflow else None,
            processes=processes,
        )


def training_data(settings: Settings, request: TrainingRequest) -> tuple[pd.DataFrame, CutoutSource | CropSource]:
    """Return the rows that a run is trained on, of all folds, and the source of their voxels.

    Raises:
        FileNotFoundError: If a table is missing.
        ValueError: If the data do not fit the configuration.
    """
    if request.config.is_segmentation:
        return segmentation_data(settings, request.config)
    return read_index(settings), cutout_source(settings, request.options.cutouts)


def train_on(
    settings: Settings,
    request: TrainingRequest,
    *,
    index: pd.DataFrame,
    store: CutoutSource | CropSource,
    open_mlflow_run: OpenMlflowRun | None,
    processes: DistributedContext = SINGLE_PROCESS,
) -> TrainedClassifier:
    """Train a classifier on given cutouts, or a segmenter on given places.

    Args:
        settings: Paths for the results.
        request: What to train.
        index: The cutout index; in segmentation the places (``segmentation_data``).
        store: The cutouts; in segmentation the source of the crops.
        open_mlflow_run: Opens the MLflow run; None for none.
        processes: Processes that train together.

    Raises:
        FileNotFoundError: If the run with the initial weights does not exist.
        ValueError: If configuration, folds and data do not match.
    """
    launcher = _launcher(settings, request, open_mlflow_run=open_mlflow_run, processes=processes)
    split = default_split(index, test_fold=request.test_fold, validation_fold=request.validation_fold)
    resume = request.resume_version or request.resume
    data: dict[str, Any] = {"index": index, "store": store, "split": split, "resume": resume}
    if request.start is None:
        return launcher.fit(request.config, **data)
    return launcher.load_fit(request.config, start=request.start, head_only=request.head_only, **data)


def train_once(settings: Settings, request: TrainingRequest) -> Checkpoint:
    """Return the newest complete run of the same configuration, data and folds; train one if there is none.

    Raises:
        FileNotFoundError: If nothing has been cut yet.
        ValueError: If configuration, folds and data do not match.
    """
    config = request.config
    index, store = training_data(settings, request)
    split = default_split(index, test_fold=request.test_fold, validation_fold=request.validation_fold)
    launcher = _launcher(settings, request)
    training, validation = launcher.parts(config, index, split)
    data = build_data_module(config, training_index=training, validation_index=validation, store=store)
    found = launcher.checkpoints.complete(config.name, config.digest, data.fingerprint)
    return found or train(settings, request).checkpoint


def _launcher(settings: Settings, request: TrainingRequest, **options: Any) -> LunaClassificationLauncher:
    kind = LunaSegmentationLauncher if request.config.is_segmentation else LunaClassificationLauncher
    return kind(
        settings.home,
        local_home=settings.local_home,
        tracking_uri=settings.mlflow_tracking_uri,
        options=request.options,
        **options,
    )


def unfinished_request(settings: Settings, name: str, version: str, options: RunOptions) -> TrainingRequest:
    """Return the request that resumes the interrupted run ``name`` (also the original project's) and ``version``.

    Raises:
        FileNotFoundError: If there is no such run.
        ValueError: If it is complete.
    """
    store, name = checkpoint_store(settings), full_name(name)
    if exists(store.path(name, version)):
        msg = f"A run to resume must be unfinished, got a complete one ({name} {version})."
        raise ValueError(f"{msg} Go on from its weights with a `load_train_…` command.")
    last = load_checkpoint(store.path(name, version, "last"))
    split = _split_of(last, read_table(settings, "folds") if last.config.is_segmentation else read_index(settings))
    return TrainingRequest(
        config=last.config,
        test_fold=split.test_fold,
        validation_fold=split.validation_fold,
        resume_version=version,
        uses_mlflow=last.mlflow_run_id is not None,
        options=options,
    )


def _read_config(file: Path) -> TrainingConfig:
    advice = "Write one with `TrainingConfig.to_dict`."
    values = read_json_object(file, "A configuration", advice=advice)
    try:
        return TrainingConfig.from_dict(values)
    except (ValueError, TypeError) as error:
        text = str(error)
        # A value may be as long as the file.
        shown = text if len(text) <= 800 else f"{text[:500]}... ({len(text)} characters)"
        raise ValueError(f"{shown} (file {file})") from error


def _split_of(last: Checkpoint, index: pd.DataFrame) -> TrainingSplit:
    """Return the folds that a run held out, found by the series that its checkpoint lists."""
    series, folds = index["series_instance_uid"], index["fold"]
    validation = sorted({int(fold) for fold in folds[series.isin(last.validation_series)]})
    if len(validation) > 1:
        msg = f"A run's validation series must lie in one fold, got {validation} ({last.name} {last.version})."
        raise ValueError(f"{msg} Its folds have changed since: train a new version.")
    return TrainingSplit(test_fold=unseen_fold(last, index), validation_fold=validation[0] if validation else None)
