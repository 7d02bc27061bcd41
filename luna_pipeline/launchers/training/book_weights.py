"""The classifier of 'Deep Learning with PyTorch' as a checkpoint and a registered model of this project."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from luna_pipeline.core.events.messages import LogModel, LogParams, LogStart
from luna_pipeline.core.models.classification import classification_signature
from luna_pipeline.core.networks.book_weights import import_book_weights
from luna_pipeline.core.storage.files import sha256_of
from luna_pipeline.core.training.building import network_of, task_of
from luna_pipeline.core.training.checkpoints import Checkpoint, save_checkpoint
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers.installation import checkpoint_store, open_mlflow_run
from luna_pipeline.launchers.training.run import TrainedClassifier, released_on_error
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers

BOOK_NAME, BOOK_VERSION = "book_nodule_classifier", "1"
NOTES = (
    "The published nodule classifier of 'Deep Learning with PyTorch' (Stevens, Antiga, Viehmann, 2020), research use "
    "only. It was trained on LUNA16 by the book, so a score on LUNA16 data is not a fair one. It expects cutouts of "
    "the edge rule 'shift'."
)


def import_book_classifier(state_file: Path, *, settings: Settings, register: bool = True) -> TrainedClassifier:
    """Import the published classifier of the book.

    Args:
        state_file: The book's file ``cls_….best.state``.
        settings: Paths of the installation and MLflow's address.
        register: Whether to register it as an MLflow model too, in a separate run.

    Returns:
        The checkpoint ``book_nodule_classifier``, version 1 or its next build.

    Raises:
        FileNotFoundError: If there is no such file.
        BookWeightsError: If it is another file.
    """
    started = time.perf_counter()
    checkpoint, model_uri = _book_checkpoint(state_file), None
    store = checkpoint_store(settings)
    version = store.claim(BOOK_NAME, BOOK_VERSION)
    with released_on_error(store, BOOK_NAME, version):
        checkpoint = replace(checkpoint, version=version)
        if register:
            checkpoint, model_uri = _registered(checkpoint, settings, source=sha256_of(state_file))
        path = store.path(BOOK_NAME, version)
        save_checkpoint(path, checkpoint)
    return TrainedClassifier(
        checkpoint=checkpoint,
        path=path,
        version=version,
        history=pd.DataFrame(),
        tensorboard_dir=settings.local_home / "tensorboard" / BOOK_NAME / version,
        seconds=time.perf_counter() - started,
        model_uri=model_uri,
        mlflow_run_id=checkpoint.mlflow_run_id,
    )


def _book_checkpoint(state_file: Path) -> Checkpoint:
    network, model_state = import_book_weights(state_file)
    # Nothing was trained here: there is no epoch, no data and no optimizer state.
    return Checkpoint(
        name=BOOK_NAME,
        version=BOOK_VERSION,
        config=TrainingConfig(name=BOOK_NAME, version=BOOK_VERSION, network=network),
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
        notes=NOTES,
    )


def _registered(checkpoint: Checkpoint, settings: Settings, *, source: str) -> tuple[Checkpoint, str | None]:
    run_name = f"{checkpoint.name} {checkpoint.version}"
    with open_mlflow_run(settings, run_name=run_name, system_metrics_seconds=None) as run:
        checkpoint = replace(checkpoint, mlflow_run_id=run.run_id)
        handlers = MlflowHandlers(run, tags={"source_sha256": source, "luna.checkpoint": run_name})
        handlers.log_start(LogStart(description=NOTES))
        params = {name: value for name, value in checkpoint.config.flat().items() if name.startswith("network.")}
        handlers.log_params(LogParams(params=params))
        signature = classification_signature(task_of(checkpoint.config))
        name, version, module = checkpoint.name, checkpoint.version, network_of(checkpoint)
        handlers.log_model(
            LogModel(name=name, version=version, checkpoint=checkpoint, module=module, signature=signature)
        )
    return checkpoint, handlers.model_uri
