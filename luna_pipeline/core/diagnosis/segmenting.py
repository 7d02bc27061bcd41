"""Applies a segmentation network to a searched box of a whole CT."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe
from luna_pipeline.core.diagnosis.slices import SliceReach, segment_slices
from luna_pipeline.core.diagnosis.windows import segment_windows
from luna_pipeline.core.models.scoring import evaluating
from luna_pipeline.core.networks.folding import folded
from luna_pipeline.core.networks.luna import context_slices_of, is_segmenter, unwrapped

Box = tuple[slice, slice, slice]
MEMORY_BYTES = 256 << 20
"""Budget for the feature maps of a batch; at least one slice or window is processed at a time."""
WINDOW_IRC = (32, 64, 64)
"""Window of a volume network without an attribute ``window_irc``, the crops that it was trained on."""


def segment(
    network: nn.Module,
    hounsfield_axial: NDArray[np.int16],
    box: Box,
    recipe: DiagnosisRecipe,
    *,
    searched: NDArray[np.bool_] | None = None,
    device: torch.device | str = "cpu",
    memory_bytes: int = MEMORY_BYTES,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the score of each voxel of a box.

    A slice network sees whole slices, as far as they affect the box: a score does not depend on the box. A volume
    network sees overlapping windows of the box, whose scores are blended by Gaussian weights.

    Args:
        network: Maps HU to logits, see ``NETWORKS``; stays unchanged.
        hounsfield_axial: HU of the axial view, (I, R, C), of any strides.
        box: The searched box of the axial view.
        recipe: Overlap of windows.
        searched: Voxels of the box whose scores are needed, bool; slices and windows without one are left out, their
            scores are 0. None: all.
        device: Where the network runs; slices and windows are moved to it batch by batch.
        memory_bytes: Budget for the feature maps of a batch.
        on_progress: Called with the numbers of finished and of all parts.

    Returns:
        Scores in [0, 1], float32, of the box's shape.

    Raises:
        ValueError: If the network is a classifier, or the box is empty or not within the CT.
        NonFiniteError: If a score is nan.

    Source:
        Windows and blending: MONAI's ``SlidingWindowInferer``; nnU-Net (Isensee et al., 2021, arXiv:1809.10486).
    """
    _check(network, hounsfield_axial, box, searched)
    module = folded(network)
    module = (copy.deepcopy(module) if module is network else module).to(device)
    common: dict[str, Any] = {
        "searched": searched,
        "device": torch.device(device),
        "memory_bytes": memory_bytes,
        "on_progress": on_progress or (lambda _done, _total: None),
    }
    inner = unwrapped(network)
    with evaluating(module):
        if context_slices := context_slices_of(network):
            multiple, pixels = getattr(inner, "size_multiple", 1), getattr(inner, "reach_pixels", None)
            reach = SliceReach(context_slices, multiple, pixels)
            return segment_slices(module, hounsfield_axial, box, reach=reach, **common)
        window_irc = getattr(inner, "window_irc", WINDOW_IRC)
        return segment_windows(module, hounsfield_axial[box], window_irc=window_irc, overlap=recipe.overlap, **common)


def _check(network: nn.Module, hounsfield: NDArray[np.int16], box: Box, searched: NDArray[np.bool_] | None) -> None:
    if not is_segmenter(network):
        kind = type(unwrapped(network)).__name__
        msg = f"A segmenter must return a logit for each voxel, got a classifier ({kind})."
        raise ValueError(f"{msg} Name a checkpoint of a segmentation network.")
    sizes = tuple(part.stop - part.start for part in box)
    is_inside = all(0 <= part.start < part.stop <= size for part, size in zip(box, hounsfield.shape, strict=True))
    if not is_inside:
        bounds = [(part.start, part.stop) for part in box]
        msg = f"The searched box must hold voxels of the CT only, got {bounds} (CT of {hounsfield.shape} voxels)."
        raise ValueError(f"{msg} Choose another box.")
    if searched is not None and searched.shape != sizes:
        msg = f"The searched voxels must be those of the box {sizes}, got {searched.shape}. Cut the mask to the box."
        raise ValueError(msg)
