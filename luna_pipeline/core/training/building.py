"""Builds the parts of a run from its configuration: model, data, and the network of a checkpoint."""

from typing import Any

import pandas as pd
import torch
from torch import nn

from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.augmenting import Augmenter
from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.datasets.masks import CropSource
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext
from luna_pipeline.core.events.messages import BaseMessageHandler
from luna_pipeline.core.models.base import BaseModel, ClassificationTask
from luna_pipeline.core.models.batch_iterator import BatchIteratorProvider
from luna_pipeline.core.models.optimizer_step import Stepper
from luna_pipeline.core.networks.config import LOSSES, MASK_LOSSES
from luna_pipeline.core.networks.freezing import freeze, new_head
from luna_pipeline.core.networks.losses import build_loss
from luna_pipeline.core.networks.luna import build_network, is_segmenter
from luna_pipeline.core.training.checkpoints import Checkpoint, load_weights
from luna_pipeline.core.training.compiling import compile_network
from luna_pipeline.core.training.config import MODELS, TrainingConfig
from luna_pipeline.core.training.optimizers import build_optimizer
from luna_pipeline.core.training.randomness import fork_rng
from luna_pipeline.core.training.schedulers import build_schedule


def build_model(
    config: TrainingConfig,
    *,
    handler: BaseMessageHandler,
    num_batches: int,
    processes: DistributedContext = SINGLE_PROCESS,
    start_from: Checkpoint | None = None,
) -> BaseModel[Any]:
    """Return a new model, ready for its first epoch.

    Args:
        config: Configuration of the run; its seed determines the initial weights.
        handler: Receives the model's messages.
        num_batches: Training batches of an epoch (``DataModule.num_training_batches``).
        processes: The processes that train together.
        start_from: The finished run that ``config.start`` names; its weights are the initial ones. (For an unfinished
            run see ``Trainer.fit(resume_from=...)``.)

    Raises:
        CheckpointError: If the weights of ``start_from`` do not fit the network.
    """
    network = initial_network(config, start_from).to(processes.device)
    check_fits_model(config, network)
    module = processes.wrap_ddp(network)
    optimizer = build_optimizer(module, config.optimizer)
    num_steps = -(-num_batches // config.accumulated_batches)
    stepper = Stepper(
        module,
        optimizer,
        build_schedule(optimizer, config.scheduler, num_epochs=config.num_epochs, num_steps_per_epoch=num_steps),
        clip_norm=config.clipping.norm,
        clip_value=config.clipping.value,
        accumulated_batches=config.accumulated_batches,
        mixed_precision=config.compute.mixed_precision,
    )
    model: BaseModel[Any] = MODELS.get(config.model)(
        module,
        task=task_of(config),
        loss=build_loss(config.loss).to(processes.device),
        stepper=stepper,
        augment=Augmenter(config.augmentation, seed=config.seed),
        batch_iterator=BatchIteratorProvider(handler),
        handler=handler,
        processes=processes,
    )
    return model


def build_data_module(
    config: TrainingConfig,
    *,
    training_index: pd.DataFrame,
    validation_index: pd.DataFrame | None,
    store: CutoutSource | CropSource,
    num_workers: int = 0,
    processes: DistributedContext = SINGLE_PROCESS,
) -> DataModule:
    """Return the data of a run.

    Args:
        config: Configuration of the run.
        training_index: Training rows of the cutout index, see ``split_index``; in segmentation of ``split_places``.
        validation_index: Validation rows, which choose epoch and threshold; None for none.
        store: Source of the cutouts, or of the crops.
        num_workers: Number of loading processes.
        processes: The processes that train together; each loads its part of every batch.
    """
    dataset = DATASETS.get(config.dataset)
    return DataModule(
        dataset(dataset.usable(training_index), store),
        None if validation_index is None else dataset(dataset.usable(validation_index), store),
        batch_size=config.batch_size,
        ratio=config.ratio,
        seed=config.seed,
        accumulate_batches=config.accumulated_batches,
        rank=processes.rank,
        world_size=processes.world_size,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def check_fits_model(config: TrainingConfig, network: nn.Module) -> None:
    """Check that data set, network, loss and model are all of segmentation, or all of classification.

    Raises:
        ValueError: If they are not.
    """
    parts = {
        "network": (config.network.name, is_segmenter(network)),
        "loss": (config.loss.name, config.loss.name in MASK_LOSSES or LOSSES.is_own(config.loss.name)),
        "model": (config.model, config.model == "nodule_segmentation" or MODELS.is_own(config.model)),
    }
    if not config.is_segmentation:
        parts["loss"] = (config.loss.name, config.loss.name in MASK_LOSSES)
        parts["model"] = (config.model, config.model == "nodule_segmentation")
    kind = "segment" if config.is_segmentation else "classify"
    for part, (name, segments) in parts.items():
        if segments is not config.is_segmentation:
            msg = f"A run on the data set {config.dataset!r} must have a {part} that can {kind}, got {name!r}."
            raise ValueError(f"{msg} Start from a recipe, such as segmenter_baseline or nodule_baseline.")


def task_of(config: TrainingConfig) -> ClassificationTask:
    """Return input shape and classes of a run's classifier."""
    return ClassificationTask(config.network.chunk_shape_irc, tuple(DATASETS.get(config.dataset).label_names))


def network_of(checkpoint: Checkpoint) -> nn.Module:
    """Return the trained network of a checkpoint, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: If its weights do not fit its configuration.
    """
    with fork_rng(0):
        network = build_network(checkpoint.config.network)
    load_weights(network, checkpoint.model_state, origin=f"{checkpoint.name} {checkpoint.version}")
    network.eval()
    return network


def initial_network(config: TrainingConfig, start_from: Checkpoint | None = None) -> nn.Module:
    """Return the network of a run before its first step, on the CPU; for the arguments see `build_model`."""
    with fork_rng(config.seed):
        network = build_network(config.network)
        if start_from is not None:
            load_weights(network, start_from.model_state, origin=f"{start_from.name} {start_from.version}")
            if config.start.new_head:
                new_head(network)
    freeze(network, config.frozen)
    if not config.compute.channels_last:
        network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if config.compute.is_compiled:
        compile_network(network)
    return network
