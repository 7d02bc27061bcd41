"""Batches of one sample, which batch norms over single values cannot train on."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext
from luna_pipeline.core.models.scoring import on_device
from luna_pipeline.core.networks.freezing import set_training_mode
from luna_pipeline.core.networks.luna import context_slices_of
from luna_pipeline.core.networks.segmenters import network_input
from luna_pipeline.core.training.building import initial_network
from luna_pipeline.core.training.config import TrainingConfig


def check_batches_of_one(config: TrainingConfig, data: DataModule, processes: DistributedContext) -> None:
    """Try a batch of one sample if the run will have one, at the end of an epoch or in a process.

    Raises:
        ValueError: If the network's batch norms need more.
    """
    size, num_samples = data.batch_size, len(data.training)
    last = num_samples % size or size
    smallest = min(size, last) // processes.world_size
    # On several GPUs batch norms use the samples of all processes.
    if smallest > 1 or (processes.world_size > 1 and SINGLE_PROCESS.device.type == "cuda"):
        return
    network = initial_network(config)
    if not any(isinstance(layer, _BatchNorm) for layer in network.modules()):
        return
    set_training_mode(network)
    chunk_hu = on_device(torch.zeros(1, 1, *data.training.chunk_shape_irc), torch.device("cpu"))
    try:
        with torch.no_grad():
            network(network_input(chunk_hu, context_slices_of(network)))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        better = _better_size(size, num_samples, smallest=2 * processes.world_size)
        msg = f"Each batch must hold two samples a process for the batch norms of network {config.network.name!r}"
        got = (
            f"a batch of {min(last, size)} ({num_samples} samples, batch_size {size}, {processes.world_size} processes)"
        )
        raise ValueError(f"{msg}, got {got}. Set batch_size to {better}.") from error


def _better_size(size: int, num_samples: int, *, smallest: int) -> int:
    """Return the next larger batch size whose last batch has at least ``smallest`` samples."""
    sizes = range(max(size, smallest), max(num_samples, smallest))
    return next((better for better in sizes if not 0 < num_samples % better < smallest), num_samples)
