"""Losses by name: logits (N, 2) and labels (N,) to the loss of each sample (N,).

A step minimises the sum of the losses of its samples divided by their number. torch's weighted mean divides by the sum
of the weights instead: there the weight of a sample depends on the others of its batch.
"""

import torch
from torch import nn

from luna_pipeline.core.networks.config import LOSSES, LossConfig


class _ClassWeighted(nn.Module):
    """A loss with a weight for each class.

    Attributes:
        class_weights: float32 (2,); moves with the module to a device, and is not part of its state.
    """

    class_weights: torch.Tensor

    def __init__(self, positive_weight: float) -> None:
        super().__init__()
        self.register_buffer("class_weights", torch.tensor([1.0, positive_weight]), persistent=False)


class WeightedCrossEntropy(_ClassWeighted):
    """Cross-entropy of each sample times the weight of its class: 1 for class 0, ``positive_weight`` for class 1."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the losses (N,) of logits (N, 2) against labels int64 (N,)."""
        weight = self.class_weights.to(logits.dtype)
        return nn.functional.cross_entropy(logits, labels, weight=weight, reduction="none")


class Focal(_ClassWeighted):
    """Weighted cross-entropy times (1 - p) ** focusing, where p is the probability of the right class.

    Source:
        Lin et al.: Focal loss for dense object detection, 2017, arXiv:1708.02002; computed by MONAI's ``FocalLoss``.
    """

    def __init__(self, *, focusing: float, positive_weight: float) -> None:
        """Take gamma of the paper and the weight of class 1; class 0 has weight 1."""
        super().__init__(positive_weight)
        # Imported here because importing MONAI takes seconds.
        from monai.losses.focal_loss import FocalLoss

        # Without MONAI's weights: it checks their signs in each call, which waits for the device.
        self._of_classes = FocalLoss(gamma=focusing, use_softmax=True, to_onehot_y=True, reduction="none")

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the losses (N,) of logits (N, 2) against labels int64 (N,)."""
        # A column for each class; only that of the label is not 0.
        by_class = self.class_weights * self._of_classes(logits, labels.unsqueeze(1))
        return by_class.sum(dim=1)  # type: ignore[no-any-return]


def build_loss(config: LossConfig) -> nn.Module:
    """Return the loss by name: logits (N, 2) and labels int64 (N,) to losses (N,)."""
    return LOSSES.get(config.name)(config)


def cross_entropy(_config: LossConfig) -> nn.Module:
    """Return the plain cross-entropy."""
    return nn.CrossEntropyLoss(reduction="none")


def weighted_cross_entropy(config: LossConfig) -> nn.Module:
    """Return the cross-entropy in which class 1 weighs ``positive_weight``."""
    return WeightedCrossEntropy(config.positive_weight)


def focal(config: LossConfig) -> nn.Module:
    """Return the focal loss in which class 1 weighs ``positive_weight``."""
    return Focal(focusing=config.focusing, positive_weight=config.positive_weight)
