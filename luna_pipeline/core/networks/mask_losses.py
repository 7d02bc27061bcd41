"""Losses of segmentation: logits and masks (N, 1, ...) to the loss of each sample (N,), computed by MONAI.

The loss of a sample does not depend on the others of its batch, so that batches may be split over steps and processes.
"""

import torch
from torch import nn

from luna_pipeline.core.networks.config import LossConfig

# The mean focal loss is that small because most voxels are easy.
_FOCAL_FACTOR = 20.0
# Voxels that are added to both sides of the Dice: a crop without a nodule then has a gradient against false voxels.
_SMOOTHING = 1.0


class Dice(nn.Module):
    """One minus the soft Dice of each sample.

    Source:
        Milletari et al.: V-Net, 2016, arXiv:1606.04797; computed by MONAI's ``DiceLoss``.
    """

    def __init__(self) -> None:
        super().__init__()
        # Imported here because importing MONAI takes seconds.
        from monai.losses.dice import DiceLoss

        self._dice = DiceLoss(sigmoid=True, reduction="none", smooth_nr=_SMOOTHING, smooth_dr=_SMOOTHING)

    def forward(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return the losses (N,) of logits against masks of 0 and 1, both (N, 1, ...)."""
        return self._dice(logits, masks.to(logits.dtype)).flatten(1).mean(1)  # type: ignore[no-any-return]


class DiceFocal(Dice):
    """The Dice loss plus ``_FOCAL_FACTOR`` times the mean focal loss of the voxels of each sample.

    Source:
        Lin et al.: Focal loss for dense object detection, 2017, arXiv:1708.02002; computed by MONAI's ``FocalLoss``.
    """

    def __init__(self, *, focusing: float, positive_weight: float) -> None:
        """Take gamma of the paper and the weight of nodule voxels; other voxels have weight 1."""
        super().__init__()
        from monai.losses.focal_loss import FocalLoss

        self._positive_weight = positive_weight
        self._focal = FocalLoss(gamma=focusing, reduction="none")

    def forward(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return the losses (N,) of logits against masks of 0 and 1, both (N, 1, ...)."""
        target = masks.to(logits.dtype)
        weights = 1 + (self._positive_weight - 1) * target
        focal = (weights * self._focal(logits, target)).flatten(1).mean(1)
        return super().forward(logits, masks) + _FOCAL_FACTOR * focal  # type: ignore[no-any-return]


def dice(_config: LossConfig) -> nn.Module:
    """Return the Dice loss."""
    return Dice()


def dice_focal(config: LossConfig) -> nn.Module:
    """Return the Dice loss plus the focal loss."""
    return DiceFocal(focusing=config.focusing, positive_weight=config.positive_weight)
