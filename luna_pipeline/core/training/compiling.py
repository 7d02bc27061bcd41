"""Compilation of a network by ``torch.compile``, with results that do not depend on earlier runs of the process."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


def compile_network(network: nn.Module) -> None:
    """Compile a network in place, at its first batch; names of weights stay.

    By default torch compiles a second batch size as any size, and keeps what earlier networks of the process compiled.
    Kernels, and so rounding, would depend on the order of the batches: a resumed run would differ in the last digits.
    """
    torch.compiler.reset()
    network.compile(dynamic=False)


@contextlib.contextmanager
def compile_errors_in_one_line() -> Iterator[None]:
    """Raise an error of the compiler, which has many lines, as a RuntimeError of one."""
    try:
        yield
    except RuntimeError as error:
        # The class has a private address only, and importing it takes seconds.
        if not any(kind.__name__ == "TorchDynamoException" for kind in type(error).__mro__):
            raise
        got = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        msg = f"With compute.is_compiled, torch.compile must compile the network, got {got[:300]}"
        raise RuntimeError(f"{msg}. Install a C++ compiler, or set compute.is_compiled to False.") from error
