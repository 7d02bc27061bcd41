"""What a segmentation network sees of HU and of a crop, and which part of the mask it predicts."""

import torch
from torch import nn

WINDOW_HU = (-1000.0, 1000.0)
"""Range of HU in training samples; a network clamps to it as well."""


class HounsfieldWindow(nn.Module):
    """Clamps HU to ``WINDOW_HU`` and scales it to -1 (air) to 1."""

    def forward(self, volumes_hu: torch.Tensor) -> torch.Tensor:
        """Return scaled values of the same shape."""
        return volumes_hu.clamp(*WINDOW_HU) / WINDOW_HU[1]


def network_input(crops_hu: torch.Tensor, context_slices: int) -> torch.Tensor:
    """Return the input of a network for crops (N, 1, D, H, W).

    A slice network gets the middle 2 * ``context_slices`` + 1 slices as channels.
    """
    if not context_slices:
        return crops_hu
    middle = crops_hu.shape[2] // 2
    return crops_hu[:, 0, middle - context_slices : middle + context_slices + 1]


def target_of(masks: torch.Tensor, context_slices: int) -> torch.Tensor:
    """Return the part of masks (N, 1, D, H, W) that a network predicts: all, or the middle slice (N, 1, H, W)."""
    return masks[:, :, masks.shape[2] // 2] if context_slices else masks
