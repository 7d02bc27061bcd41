"""From a configuration to the parts of a run: the model to train, and the network of a checkpoint."""

import pandas as pd
import torch

from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, TrainingCutoutsDataset
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.messages import BaseMessageHandler
from luna_pipeline.core.models.classification import NoduleClassificationModel
from luna_pipeline.core.models.networks import LunaNetwork, build_network
from luna_pipeline.core.training.batch_iterator import BatchIteratorProvider
from luna_pipeline.core.training.checkpoints import Checkpoint, load_weights
from luna_pipeline.core.training.config import OptimizerConfig, TrainingConfig
from luna_pipeline.core.training.randomness import own_random_numbers


def build_model(
    config: TrainingConfig,
    *,
    handler: BaseMessageHandler,
    device: torch.device | None = None,
    start_from: Checkpoint | None = None,
) -> NoduleClassificationModel:
    """Return a new model, ready for its first epoch.

    Args:
        config: Configuration of the run; its seed decides the first weights.
        handler: Takes the model's messages.
        device: Where to train; None for the GPU where there is one.
        start_from: A finished run whose weights are the first ones. (To continue a run that was ended before its time
            is the trainer's: ``Trainer.fit(resume_from=...)``.)

    Raises:
        CheckpointError: If the weights of ``start_from`` do not fit the network.
    """
    device = device or default_device()
    with own_random_numbers(config.seed):
        network = build_network(config.network)
    if start_from is not None:
        load_weights(network, start_from.model_state, origin=f"{start_from.name} {start_from.version}")
    network = network.to(device)
    optimizer = _optimizer(network, config.optimizer)
    return NoduleClassificationModel(
        network,
        chunk_shape_irc=config.network.chunk_shape_irc,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=config.scheduler.gamma),
        batch_iterator=BatchIteratorProvider(handler),
        handler=handler,
    )


def build_data_module(
    config: TrainingConfig,
    *,
    training_index: pd.DataFrame,
    validation_index: pd.DataFrame | None,
    store: CutoutStore,
    num_workers: int = 0,
) -> DataModule:
    """Return the data of a run.

    Args:
        config: Configuration of the run.
        training_index: Rows of the cutout index to learn from, see ``split_index``.
        validation_index: Rows to choose epoch and threshold by; None for none.
        store: Where the cutouts lie.
        num_workers: Processes that load.
    """
    training = TrainingCutoutsDataset(training_index, store, augmentation=config.augmentation, seed=config.seed)
    return DataModule(
        training,
        None if validation_index is None else CutoutsDataset(validation_index, store),
        batch_size=config.batch_size,
        ratio=config.ratio,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def network_of(checkpoint: Checkpoint) -> LunaNetwork:
    """Return the trained network of a checkpoint, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: If its weights are not those of its configuration.
    """
    with own_random_numbers(0):
        network = build_network(checkpoint.config.network)
    load_weights(network, checkpoint.model_state, origin=f"{checkpoint.name} {checkpoint.version}")
    network.eval()
    return network


def default_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _optimizer(network: torch.nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.name == "sgd":
        return torch.optim.SGD(network.parameters(), lr=rate, weight_decay=decay, momentum=config.momentum)
    return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay, betas=config.betas)
