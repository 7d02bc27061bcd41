"""Several processes that train one network together, as torchrun starts them; or one alone, by the same calls."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0; the first one writes and reports.
        world_size: How many there are.
        local_rank: Its number on this machine, which is its GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def largest(self, value: int) -> int:
        """Return the largest of all processes' values; all of them get the same answer, and quickly."""
        if self.world_size == 1:
            return value
        values = torch.tensor(value, device=self.device)
        distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return int(values)

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank, in each of them."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """Return the first process's value in all of them."""
        if self.world_size == 1:
            return value
        values: list[Any] = [value]
        distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]  # type: ignore[no-any-return]

    def share_buffers(self, network: nn.Module) -> None:
        """Give all processes the first one's running statistics: on CPUs each has followed its own samples."""
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
        """Return the network, wrapped so that all processes take the same steps; each begins with the first's weights.

        On GPUs batch norms count the samples of all processes; on CPUs, where PyTorch has no such batch norm, each
        process counts its own.
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
    """Join the processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK), and part from them at the end.

    Args:
        environment: Where torchrun's variables are; None for the process's own.

    Yields:
        This process among them; ``SINGLE_PROCESS`` where torchrun started none.
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
