"""Judging cutouts with a finished network: nothing is learned, nothing in the network moves."""

import contextlib
import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.luna import scores_of

# The features of four cutouts stay in a processor's cache, those of a whole batch do not.
CUTOUTS_AT_ONCE = 4


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients, and each part of it back into the mode it was in."""
    # Each part, because of a network that learns some are frozen.
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part, was_training in modes:
            part.training = was_training


def logits_of(module: nn.Module, chunks_hu: torch.Tensor) -> torch.Tensor:
    """Return the logits (N, 2) of cutouts (N, 1, I, R, C), a few at a time; for use within ``evaluating``."""
    if chunks_hu.device.type != "cpu":
        return module(chunks_hu)  # type: ignore[no-any-return]
    num_cutouts = len(chunks_hu)
    if num_cutouts == 1:
        # torch computes the convolutions of a single small cutout in another way, ten times as slow.
        return module(torch.cat([chunks_hu, chunks_hu]))[:1]  # type: ignore[no-any-return]
    # Parts of nearly equal size: none of them is a single cutout.
    num_parts = max(math.ceil(num_cutouts / CUTOUTS_AT_ONCE), 1)
    return torch.cat([module(part) for part in torch.tensor_split(chunks_hu, num_parts)])


def predict(module: nn.Module, batches: Iterable[CutoutBatch]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Score cutouts.

    Args:
        module: Maps HU (N, 1, I, R, C) to logits (N, 2).
        batches: Such as a ``DataLoader`` of a ``CutoutsDataset``.

    Returns:
        Candidate ids (N,) and their scores (N,) in [0, 1], in the order of the batches.
    """
    device = next(module.parameters()).device
    network = folded(module)
    ids, scores = [np.empty(0, dtype=np.int64)], [torch.empty(0, device=device)]
    with evaluating(network):
        for batch in batches:
            ids.append(batch.candidate_id.numpy())
            scores.append(scores_of(logits_of(network, on_device(batch.chunks_hu, device))))
    return np.concatenate(ids), torch.cat(scores).cpu().double().numpy()


def on_device(chunks_hu: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Bring cutouts to where the network is, in the memory format it computes with."""
    moved = chunks_hu.to(device, non_blocking=True)
    return moved.contiguous(memory_format=torch.channels_last_3d)
