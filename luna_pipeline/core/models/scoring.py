"""Scores cutouts with a trained network, without changing it."""

import contextlib
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.models.finite import NonFiniteError
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.luna import scores_of


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set a network to evaluation mode without gradients, and restore the mode of each part (frozen parts differ)."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part, was_training in modes:
            part.training = was_training


def logits_of(module: nn.Module, chunks_hu: torch.Tensor) -> torch.Tensor:
    """Return the logits (N, 2) of cutouts (N, 1, D, H, W); for use within ``evaluating``."""
    if chunks_hu.device.type == "cpu" and len(chunks_hu) == 1:
        # For a single small cutout torch uses another convolution, which takes ten times as long.
        return module(torch.cat([chunks_hu, chunks_hu]))[:1]  # type: ignore[no-any-return]
    return module(chunks_hu)  # type: ignore[no-any-return]


def predict(module: nn.Module, batches: Iterable[CutoutBatch]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Score cutouts.

    Args:
        module: Maps HU (N, 1, D, H, W) to logits (N, 2).
        batches: Such as a ``DataLoader`` of a ``CutoutsDataset``.

    Returns:
        Candidate ids (N,) and their scores (N,) in [0, 1], in the order of the batches.

    Raises:
        NonFiniteError: If a score is nan, as of weights that are nan.
    """
    device = next(module.parameters()).device
    network = folded(module)
    ids, scores = [np.empty(0, dtype=np.int64)], [torch.empty(0, device=device)]
    with evaluating(network):
        for batch in batches:
            ids.append(batch.candidate_id.numpy())
            scores.append(scores_of(logits_of(network, on_device(batch.chunks_hu, device))))
    candidate_ids, on_host = np.concatenate(ids), torch.cat(scores).cpu().double().numpy()
    if (is_wrong := ~np.isfinite(on_host)).any():
        got = f"{on_host[is_wrong][0]} for {int(is_wrong.sum())} of {len(on_host)} candidates"
        where = f"the first has candidate_id {candidate_ids[is_wrong][0]}"
        raise NonFiniteError(f"Scores must be finite, got {got} ({where}). Use another checkpoint, or train again.")
    return candidate_ids, on_host


def on_device(chunks_hu: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return cutouts on the network's device in channels-last layout."""
    moved = chunks_hu.to(device, non_blocking=True)
    return moved.contiguous(memory_format=torch.channels_last_3d)
