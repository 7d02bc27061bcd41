"""The two networks of 'Deep Learning with PyTorch' as checkpoints and registered models of this project."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from luna_pipeline.core.events.messages import LogModel, LogParams, LogStart
from luna_pipeline.core.models.base import Signature, TensorSpec
from luna_pipeline.core.models.classification import classification_signature
from luna_pipeline.core.networks.book_weights import BOOK_UNET, import_book_weights
from luna_pipeline.core.storage.files import sha256_of
from luna_pipeline.core.training.building import network_of, task_of
from luna_pipeline.core.training.checkpoints import Checkpoint, save_checkpoint
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers.installation import checkpoint_store, open_mlflow_run
from luna_pipeline.launchers.training.run import TrainedClassifier, released_on_error
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers

BOOK_NAME, BOOK_SEGMENTER_NAME, BOOK_VERSION = "book_nodule_classifier", "book_nodule_segmenter", "1"
_FROM_THE_BOOK = (
    "of 'Deep Learning with PyTorch' (Stevens, Antiga, Viehmann, 2020), research use only. It was trained on LUNA16 by "
    "the book, so a score on LUNA16 data is not a fair one."
)
NOTES = f"The published nodule classifier {_FROM_THE_BOOK} It expects cutouts of the edge rule 'shift'."
SEGMENTER_NOTES = f"The published nodule segmentation {_FROM_THE_BOOK} It reads seven neighbouring slices."


def import_book_model(state_file: Path, *, settings: Settings, register: bool = True) -> TrainedClassifier:
    """Import the published classifier or segmentation of the book; the file's tensors tell which it is.

    Args:
        state_file: The book's file ``cls_….best.state`` or ``seg_….best.state``.
        settings: Paths of the installation and MLflow's address.
        register: Whether to register it as an MLflow model too, in a separate run.

    Returns:
        The checkpoint ``book_nodule_classifier`` or ``book_nodule_segmenter``, version 1 or its next build.

    Raises:
        FileNotFoundError: If there is no such file.
        BookWeightsError: If it is another file.
    """
    started = time.perf_counter()
    checkpoint, model_uri = _book_checkpoint(state_file), None
    store = checkpoint_store(settings)
    name = checkpoint.name
    version = store.claim(name, BOOK_VERSION)
    with released_on_error(store, name, version):
        checkpoint = replace(checkpoint, version=version)
        if register:
            checkpoint, model_uri = _registered(checkpoint, settings, source=sha256_of(state_file))
        path = store.path(name, version)
        save_checkpoint(path, checkpoint)
    return TrainedClassifier(
        checkpoint=checkpoint,
        path=path,
        version=version,
        history=pd.DataFrame(),
        tensorboard_dir=settings.local_home / "tensorboard" / name / version,
        seconds=time.perf_counter() - started,
        model_uri=model_uri,
        mlflow_run_id=checkpoint.mlflow_run_id,
    )


def _book_checkpoint(state_file: Path) -> Checkpoint:
    network, model_state = import_book_weights(state_file)
    if network == BOOK_UNET:
        parts = {"name": BOOK_SEGMENTER_NAME, "model": "nodule_segmentation", "dataset": "nodule_masks"}
    else:
        parts = {"name": BOOK_NAME}
    config = TrainingConfig(version=BOOK_VERSION, network=network).with_changes(parts)
    # Nothing was trained here: there is no epoch, no data and no optimizer state.
    return Checkpoint(
        name=config.name,
        version=BOOK_VERSION,
        config=config,
        model_state=model_state,
        optimizer_state={},
        scheduler_state={},
        epoch=0,
        num_samples_seen=0,
        best_score=math.nan,
        rng_state={},
        training_series=[],
        validation_series=[],
        training_candidate_ids=torch.empty(0, dtype=torch.int64),
        data_fingerprint="",
        has_unknown_origin=True,
        notes=SEGMENTER_NOTES if config.name == BOOK_SEGMENTER_NAME else NOTES,
    )


def _registered(checkpoint: Checkpoint, settings: Settings, *, source: str) -> tuple[Checkpoint, str | None]:
    run_name = f"{checkpoint.name} {checkpoint.version}"
    with open_mlflow_run(settings, run_name=run_name, system_metrics_seconds=None) as run:
        checkpoint = replace(checkpoint, mlflow_run_id=run.run_id)
        handlers = MlflowHandlers(run, tags={"source_sha256": source})
        handlers.log_start(LogStart(description=checkpoint.notes))
        params = {name: value for name, value in checkpoint.config.flat().items() if name.startswith("network.")}
        handlers.log_params(LogParams(params=params))
        signature = _signature(checkpoint.config)
        name, version, module = checkpoint.name, checkpoint.version, network_of(checkpoint)
        handlers.log_model(
            LogModel(name=name, version=version, checkpoint=checkpoint, module=module, signature=signature)
        )
    return checkpoint, handlers.model_uri


def _signature(config: TrainingConfig) -> Signature:
    if config.name == BOOK_NAME:
        return classification_signature(task_of(config))
    num_slices, *size = config.network.chunk_shape_irc
    return Signature(
        inputs=(TensorSpec("slices_hu", "float32", (-1, num_slices, *size)),),
        outputs=(TensorSpec("probability", "float32", (-1, 1, *size)),),
    )
