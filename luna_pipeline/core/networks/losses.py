"""Losses by name: logits (N, 2) and labels (N,) to the loss of each sample (N,).

A step minimises the sum over its samples divided by their number. Where torch's own weighted mean divides by the
sum of the weights, this one does not: so a sample counts the same whichever others share its batch, its
accumulated batches or its processes.
"""

import torch
from torch import nn

from luna_pipeline.core.networks.config import LOSSES, LossConfig


class WeightedCrossEntropy(nn.Module):
    """Cross-entropy of each sample, times the weight of its class.

    Attributes:
        class_weights: float32 (2,); moves with the module to a device and is no part of its state.
    """

    class_weights: torch.Tensor

    def __init__(self, positive_weight: float) -> None:
        """Take the weight of class 1; class 0 has 1."""
        super().__init__()
        self.register_buffer("class_weights", torch.tensor([1.0, positive_weight]), persistent=False)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the losses (N,) of logits (N, 2) against labels int64 (N,)."""
        weight = self.class_weights.to(logits.dtype)
        return nn.functional.cross_entropy(logits, labels, weight=weight, reduction="none")


class Focal(nn.Module):
    """Weighted cross-entropy, times (1 - p) ** focusing, where p is the probability of the right class.

    Source:
        Lin et al.: Focal loss for dense object detection, 2017, arXiv:1708.02002; computed by MONAI's ``FocalLoss``.
    """

    def __init__(self, *, focusing: float, positive_weight: float) -> None:
        """Take gamma of the paper and the weight of class 1; class 0 has 1."""
        super().__init__()
        # Here, because importing it takes seconds.
        from monai.losses.focal_loss import FocalLoss

        self._of_classes = FocalLoss(
            gamma=focusing, weight=[1.0, positive_weight], use_softmax=True, to_onehot_y=True, reduction="none"
        )

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the losses (N,) of logits (N, 2) against labels int64 (N,)."""
        # A column for each class, of which only the label's is not 0.
        return self._of_classes(logits, labels.unsqueeze(1)).sum(dim=1)  # type: ignore[no-any-return]


def build_loss(config: LossConfig) -> nn.Module:
    """Return the loss of that name: logits (N, 2) and labels int64 (N,) to losses (N,)."""
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
