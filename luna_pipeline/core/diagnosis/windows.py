"""Applies a volume network to overlapping windows of a box, and blends their scores.

The result is that of MONAI's ``SlidingWindowInferer`` in its mode ``gaussian``. Only the slices of one row of windows
are held twice, where that inferer holds the whole box several times.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.diagnosis.batches import batch_size, scores_of_logits

_RELATIVE_SIGMA = 0.125
_LEAST_WEIGHT = 1e-3


def segment_windows(
    module: nn.Module,
    hounsfield: NDArray[np.int16],
    *,
    searched: NDArray[np.bool_] | None,
    window_irc: tuple[int, int, int],
    overlap: float,
    device: torch.device,
    memory_bytes: int,
    on_progress: Callable[[int, int], None],
) -> NDArray[np.float32]:
    """Return the blended scores of a box.

    Args:
        module: Maps HU (N, 1, D, H, W) to logits (N, 1, D, H, W), in evaluation mode.
        hounsfield: HU of the box, (I, R, C).
        searched: Needed voxels of the box; None: all. Windows without one are left out.
        window_irc: Voxels of a window; smaller where the box is smaller.
        overlap: Overlap of neighbouring windows, as a share of their length.
        device: Where the network runs.
        memory_bytes: Budget for the feature maps of a batch.
        on_progress: Called after each row of windows with the numbers of finished and of all slices.
    """
    shape = hounsfield.shape
    depth, height, width = (min(window, size) for window, size in zip(window_irc, shape, strict=True))
    starts = [window_starts(size, window, overlap) for size, window in zip(shape, (depth, height, width), strict=True)]
    weights = blend_weights((depth, height, width))
    scores = np.zeros(shape, dtype=np.float32)
    # Weighted sums of the slices that windows still overlap, and their weights.
    sums, sum_of_weights = (np.zeros((depth, *shape[1:]), dtype=np.float32) for _ in range(2))
    at_once = 0
    for first, following in itertools.pairwise([*starts[0], shape[0]]):
        slab = slice(first, first + depth)
        areas = list(_areas(starts[1:], (height, width), None if searched is None else searched[slab]))
        while areas:
            batch = _batch(hounsfield[slab], areas[: max(at_once, 1)]).to(device)
            at_once = at_once or batch_size(module, batch, memory_bytes)
            for area, found in zip(areas, scores_of_logits(module(batch)), strict=False):
                sums[:, *area] += found * weights
                sum_of_weights[:, *area] += weights
            areas = areas[len(batch) :]
        num_finished = following - first
        finished = sum_of_weights[:num_finished]
        np.divide(sums[:num_finished], finished, out=scores[first:following], where=finished > 0)
        for buffer in (sums, sum_of_weights):
            buffer[: depth - num_finished] = buffer[num_finished:]
            buffer[depth - num_finished :] = 0.0
        on_progress(following, shape[0])
    return scores


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Return the first voxels of windows along an axis; the last one is moved inwards to end with the axis."""
    step = max(int(window * (1 - overlap)), 1)
    return [*range(0, size - window, step), size - window]


def blend_weights(window_irc: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return the weight of each voxel of a window: a Gaussian, at least 0.001."""
    weights = np.ones((), dtype=np.float32)
    for size in window_irc:
        from_middle = np.arange(size, dtype=np.float32) - (size - 1) / 2
        along = np.exp(from_middle**2 / (-2 * (_RELATIVE_SIGMA * size) ** 2)).astype(np.float32)
        weights = weights[..., None] * along
    return np.maximum(weights, np.float32(_LEAST_WEIGHT))


def _areas(
    starts: list[list[int]], sizes: tuple[int, int], searched: NDArray[np.bool_] | None
) -> Iterator[tuple[slice, slice]]:
    in_any = None if searched is None else np.asarray(searched.any(axis=0))
    for first_row, first_col in itertools.product(*starts):
        area = slice(first_row, first_row + sizes[0]), slice(first_col, first_col + sizes[1])
        if in_any is None or in_any[area].any():
            yield area


def _batch(slab: NDArray[np.int16], areas: list[tuple[slice, slice]]) -> torch.Tensor:
    """Return windows, float32 (N, 1, D, H, W) in channels-last layout."""
    windows = np.stack([slab[:, *area] for area in areas]).astype(np.float32, order="C")
    return torch.from_numpy(windows)[:, None].contiguous(memory_format=torch.channels_last_3d)
