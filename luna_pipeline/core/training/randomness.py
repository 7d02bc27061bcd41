"""Torch's random numbers: a run has its own, which can be kept and taken up again."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Begin at ``seed`` inside; outside nothing is changed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def get_rng_state() -> dict[str, torch.Tensor]:
    """Return where the random numbers of each device are."""
    state = {"cpu": torch.get_rng_state()}
    for number in range(torch.cuda.device_count()):
        state[f"cuda:{number}"] = torch.cuda.get_rng_state(number)
    return state


def set_rng_state(state: dict[str, torch.Tensor]) -> None:
    """Go on from there; devices that are not here are left out."""
    torch.set_rng_state(state["cpu"])
    for number in range(torch.cuda.device_count()):
        if (device_state := state.get(f"cuda:{number}")) is not None:
            torch.cuda.set_rng_state(device_state, number)
