"""Processes that train one network together, started by torchrun; a single process has the same interface."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """Position of this process among those that train together.

    Attributes:
        rank: Number of this process, from 0; the first one writes and reports.
        world_size: Number of processes.
        local_rank: Number of this process on its machine, which selects its GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def largest(self, *values: int) -> list[int]:
        """Return the largest of all processes' values, for each argument, in every process."""
        if self.world_size == 1:
            return list(values)
        shared = torch.tensor(values, device=self.device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return shared.tolist()

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of all processes' values, added in the order of their ranks, in every process."""
        if self.world_size == 1:
            return values
        shared = torch.from_numpy(values).to(self.device)
        by_rank = [torch.empty_like(shared) for _ in range(self.world_size)]
        distributed.all_gather(by_rank, shared)
        return sum(by_rank[1:], by_rank[0]).cpu().numpy()

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank, in every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """Return the first process's value in every process."""
        if self.world_size == 1:
            return value
        values: list[Any] = [value]
        distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]  # type: ignore[no-any-return]

    def share_buffers(self, network: nn.Module) -> None:
        """Copy the first process's running statistics to all: on CPUs each process has its own."""
        if self.world_size > 1:
            for values in network.buffers():
                distributed.broadcast(values, src=0)

    @property
    def device(self) -> torch.device:
        """The GPU of this process where there is one, else the CPU."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", self.local_rank % torch.cuda.device_count())

    def wrap_ddp(self, network: nn.Module) -> nn.Module:
        """Return the network wrapped by DDP: all processes start with the first one's weights and make the same steps.

        On GPUs batch norms use the samples of all processes. On CPUs, for which PyTorch has no SyncBatchNorm, each
        process uses its own.
        """
        if self.world_size == 1:
            return network
        if self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            return nn.parallel.DistributedDataParallel(network, device_ids=[self.device.index])
        return nn.parallel.DistributedDataParallel(network)


SINGLE_PROCESS = DistributedContext()


@contextlib.contextmanager
def distributed_context(environment: Mapping[str, str] | None = None) -> Iterator[DistributedContext]:
    """Join the process group that torchrun describes (RANK, WORLD_SIZE, LOCAL_RANK), and leave it at the end.

    Args:
        environment: Holds torchrun's variables; None for ``os.environ``.

    Yields:
        The position of this process; ``SINGLE_PROCESS`` where torchrun did not start it.
    """
    values = os.environ if environment is None else environment
    world_size = int(values.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield SINGLE_PROCESS
        return
    processes = DistributedContext(
        rank=int(values["RANK"]), world_size=world_size, local_rank=int(values.get("LOCAL_RANK", "0"))
    )
    if processes.device.type == "cuda":
        torch.cuda.set_device(processes.device)
    distributed.init_process_group("nccl" if processes.device.type == "cuda" else "gloo")
    try:
        yield processes
    finally:
        distributed.destroy_process_group()
