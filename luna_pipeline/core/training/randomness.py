"""Torch's random number generators: forked for a run, saved and restored."""

import contextlib
from collections.abc import Iterator

import torch

from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext


@contextlib.contextmanager
def fork_rng(seed: int) -> Iterator[None]:
    """Seed torch's generators within the context and restore them afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def get_rng_state(processes: DistributedContext = SINGLE_PROCESS) -> dict[str, torch.Tensor]:
    """Return the generator states by process and device: ``0/cpu``, ``1/cpu``."""
    state = {"cpu": torch.get_rng_state()}
    for number in range(torch.cuda.device_count()):
        state[f"cuda:{number}"] = torch.cuda.get_rng_state(number)
    return {
        f"{rank}/{device}": numbers
        for rank, of_rank in enumerate(processes.gather(state))
        for device, numbers in of_rank.items()
    }


def set_rng_state(state: dict[str, torch.Tensor], processes: DistributedContext = SINGLE_PROCESS) -> None:
    """Restore the states; those of processes and devices that did not exist stay unchanged."""
    if (numbers := state.get(f"{processes.rank}/cpu")) is not None:
        torch.set_rng_state(numbers)
    for number in range(torch.cuda.device_count()):
        if (device_state := state.get(f"{processes.rank}/cuda:{number}")) is not None:
            torch.cuda.set_rng_state(device_state, number)
