"""Applies a slice network to the slices of a CT."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.diagnosis.batches import batch_size, scores_of_logits

# Rectangles of few different sizes: torch prepares each new size of an input once.
_AREA_STEP = 32


@dataclass(frozen=True, slots=True)
class SliceReach:
    """What a slice network sees.

    Attributes:
        context_slices: Neighbouring slices on each side.
        multiple: Rows and columns of an input must be multiples of it.
        pixels: Distance up to which a pixel affects a logit; None: any distance.
    """

    context_slices: int
    multiple: int = 1
    pixels: int | None = None

    def seen(self, part: slice, size: int) -> slice:
        """Return the rows (or columns) that affect a part of a slice; the end may lie beyond the slice's ``size``."""
        start, stop = 0, size
        if self.pixels is not None:
            start, stop = max(part.start - self.pixels, 0), min(part.stop + self.pixels, size)
        return slice(start // self.multiple * self.multiple, -(-stop // self.multiple) * self.multiple)


def segment_slices(
    module: nn.Module,
    hounsfield: NDArray[np.int16],
    box: tuple[slice, slice, slice],
    *,
    searched: NDArray[np.bool_] | None,
    reach: SliceReach,
    device: torch.device,
    memory_bytes: int,
    on_progress: Callable[[int, int], None],
) -> NDArray[np.float32]:
    """Return the scores of a box, equal to those of whole slices.

    At the ends of the CT its outermost slice is repeated. Where the network needs a multiple, the last row and column
    are repeated.

    Args:
        module: Maps HU (N, 2 * context_slices + 1, H, W) to logits (N, 1, H, W), in evaluation mode.
        hounsfield: HU of the whole CT, (I, R, C).
        box: The searched box.
        searched: Needed voxels of the box; None: all.
        reach: What the network sees.
        device: Where the network runs.
        memory_bytes: Budget for the feature maps of a batch.
        on_progress: Called after each batch with the numbers of finished and of all slices.
    """
    index, *rectangle = box
    scores = np.zeros([part.stop - part.start for part in box], dtype=np.float32)
    at_once, done, total = 0, 0, len(scores)
    while done < total:
        part = slice(done, min(done + max(at_once, 1), total))
        if area := _area(scores.shape, None if searched is None else searched[part]):
            in_slice = [
                slice(own.start + of.start, own.stop + of.start) for own, of in zip(area, rectangle, strict=True)
            ]
            seen = [reach.seen(own, size) for own, size in zip(in_slice, hounsfield.shape[1:], strict=True)]
            numbers = range(index.start + part.start, index.start + part.stop)
            batch = _stacks(hounsfield, numbers, seen, reach.context_slices).to(device)
            at_once = at_once or batch_size(module, batch, memory_bytes)
            rows, cols = (
                slice(own.start - of.start, own.stop - of.start) for own, of in zip(in_slice, seen, strict=True)
            )
            scores[part, area[0], area[1]] = scores_of_logits(module(batch)[..., rows, cols])
        done = part.stop
        on_progress(done, total)
    return scores


def _area(shape: tuple[int, ...], searched: NDArray[np.bool_] | None) -> tuple[slice, slice] | None:
    """Return the rectangle of slices of a box that holds all searched voxels; None where there are none."""
    if searched is None:
        return slice(0, shape[1]), slice(0, shape[2])
    in_any = np.asarray(searched.any(axis=0))
    found = [np.flatnonzero(in_any.any(axis=1)), np.flatnonzero(in_any.any(axis=0))]
    if not len(found[0]):
        return None
    rows, cols = (
        slice(
            int(places[0]) // _AREA_STEP * _AREA_STEP,
            min(-(-(int(places[-1]) + 1) // _AREA_STEP) * _AREA_STEP, size),
        )
        for places, size in zip(found, shape[1:], strict=True)
    )
    return rows, cols


def _stacks(hounsfield: NDArray[np.int16], numbers: range, seen: list[slice], context_slices: int) -> torch.Tensor:
    """Return slices with their neighbours, float32 (N, 2 * context_slices + 1, H, W) in channels-last layout."""
    positions = np.arange(numbers.start - context_slices, numbers.stop + context_slices)
    positions = np.clip(positions, 0, len(hounsfield) - 1)
    voxels = hounsfield[positions, seen[0], seen[1]]
    missing = [(0, part.stop - part.start - size) for part, size in zip(seen, voxels.shape[1:], strict=True)]
    if any(end for _, end in missing):
        voxels = np.pad(voxels, [(0, 0), *missing], mode="edge")
    # In C order: a flipped view has negative strides, which torch refuses.
    slices = torch.from_numpy(voxels.astype(np.float32, order="C"))
    stacks = slices.unfold(0, 2 * context_slices + 1, 1).permute(0, 3, 1, 2)
    return stacks.contiguous(memory_format=torch.channels_last)
