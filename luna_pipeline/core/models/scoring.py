"""Judging cutouts with a finished network: nothing is learned, nothing in the network moves."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.models.networks import scores_of

# The features of eight cutouts stay in a processor's cache, those of a whole batch do not.
CUTOUTS_AT_ONCE = 8


class Batch(Protocol):
    """Cutouts with their labels, see ``CutoutBatch``."""

    @property
    def chunks_hu(self) -> torch.Tensor:
        """HU, float32 (N, 1, I, R, C)."""

    @property
    def labels(self) -> torch.Tensor:
        """1 nodule, 0 other, int64 (N,)."""

    @property
    def candidate_id(self) -> torch.Tensor:
        """Identity of each candidate, int64 (N,)."""


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients, and back into the mode it was in."""
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(was_training)


def logits_of(module: nn.Module, chunks_hu: torch.Tensor) -> torch.Tensor:
    """Return the logits (N, 2) of cutouts (N, 1, I, R, C), a few at a time; for use within ``evaluating``."""
    at_once = CUTOUTS_AT_ONCE if chunks_hu.device.type == "cpu" else len(chunks_hu)
    return torch.cat([module(part) for part in torch.split(chunks_hu, at_once)])


def predict(module: nn.Module, batches: Iterable[Batch]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Score cutouts.

    Args:
        module: Maps HU (N, 1, I, R, C) to logits (N, 2).
        batches: Such as a ``DataLoader`` of a ``CutoutsDataset``.

    Returns:
        Candidate ids (N,) and their scores (N,) in [0, 1], in the order of the batches.
    """
    device = next(module.parameters()).device
    ids, scores = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    with evaluating(module):
        for batch in batches:
            ids.append(batch.candidate_id.numpy())
            logits = logits_of(module, on_device(batch.chunks_hu, device))
            scores.append(scores_of(logits).double().cpu().numpy())
    return np.concatenate(ids), np.concatenate(scores)


def on_device(chunks_hu: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Bring cutouts to where the network is, in the memory format it computes with."""
    moved = chunks_hu.to(device, non_blocking=True)
    return moved.contiguous(memory_format=torch.channels_last_3d)
