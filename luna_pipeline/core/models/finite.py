"""Checks that losses, scores, gradients and weights are finite, so that no NaN gets into a checkpoint."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from luna_pipeline.core.models.base import SplitResult

ADVICE = "Lower optimizer.learning_rate, clip gradients, or fix the loss or network, and train again."


class NonFiniteError(FloatingPointError):
    """A loss, score, gradient or weight that is nan or infinite."""


def check_number(what: str, value: float, *, where: str) -> None:
    """Raise NonFiniteError for a number that is nan or infinite."""
    if not math.isfinite(value):
        raise NonFiniteError(f"The {what} must be finite, got {value} ({where}). {ADVICE}")


def check_scores(result: SplitResult, mode: str, *, where: str) -> None:
    """Raise NonFiniteError if a score of a pass is nan or infinite."""
    is_wrong = ~np.isfinite(result.scores)
    if is_wrong.any():
        got = f"{result.scores[is_wrong][0]} for {int(is_wrong.sum())} of {len(is_wrong)} samples"
        raise NonFiniteError(f"The {mode} scores must be finite, got {got} ({where}). {ADVICE}")


def check_state(
    model_state: Mapping[str, torch.Tensor],
    optimizer_state: Mapping[str, Any],
    *,
    where: str,
    parameters: Collection[str] = (),
) -> None:
    """Raise NonFiniteError if weights or the state of the optimizer hold nan.

    Args:
        model_state: Weights and buffers by name.
        optimizer_state: State of the optimizer.
        where: The place in the run, such as ``epoch 3``.
        parameters: Names of trained weights, which must not be infinite either. A buffer may be, such as a mask.
    """
    for name, tensor in model_state.items():
        if (got := _non_finite(tensor, allows_infinity=name not in parameters)) is not None:
            raise NonFiniteError(f"Weights must be finite, got {got} in {name} ({where}). {ADVICE}")
    for path, tensor in _tensors(optimizer_state, "optimizer"):
        if (got := _non_finite(tensor, allows_infinity=True)) is not None:
            raise NonFiniteError(f"The optimizer's state must be finite, got {got} in {path} ({where}). {ADVICE}")


def _non_finite(tensor: object, *, allows_infinity: bool) -> float | None:
    # Other values are refused with the other entries of a checkpoint.
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        return None
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    # A repeated axis, which takes no memory, is looked at once.
    tensor = tensor[tuple(slice(1) if stride == 0 else slice(None) for stride in tensor.stride())]
    if tensor.isnan().any():
        return math.nan
    return None if allows_infinity or not tensor.isinf().any() else math.inf


def _tensors(value: object, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _tensors(entry, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            yield from _tensors(entry, f"{path}[{number}]")
