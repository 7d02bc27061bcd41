"""Torch's random numbers: a run has its own, which can be kept and taken up again."""

import contextlib
from collections.abc import Iterator

import torch

from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext


@contextlib.contextmanager
def fork_rng(seed: int) -> Iterator[None]:
    """Begin at ``seed`` inside; outside nothing is changed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def get_rng_state(processes: DistributedContext = SINGLE_PROCESS) -> dict[str, torch.Tensor]:
    """Return where the random numbers of each process and device are: ``0/cpu``, ``1/cpu``."""
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
