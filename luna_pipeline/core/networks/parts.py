"""Common parts of the networks: scaling of HU, head, and initial weights."""

import torch
from torch import nn

NUM_CLASSES = 2


class HounsfieldScaling(nn.Module):
    """Scales HU linearly: -500 HU, between lung and tissue, to 0, and 500 HU to 1."""

    def forward(self, chunks_hu: torch.Tensor) -> torch.Tensor:
        """Return cutouts of the same shape."""
        return (chunks_hu + 500.0) / 500.0


class ScaledNetwork(nn.Module):
    """Scaling, features, dropout, head: cutouts in HU to logits.

    Attributes:
        head_name: Name of the last linear layer, the only one that fine-tuning of the head trains.
        is_traceable: Whether ``forward`` performs the same operations for all cutouts (see ``folding``).
    """

    head_name = "head"
    is_traceable = True

    def __init__(self, features: nn.Module, num_features: int, *, dropout_rate: float) -> None:
        """Build the network; ``features`` maps scaled cutouts (N, 1, D, H, W) to (N, num_features)."""
        super().__init__()
        self.scaling = HounsfieldScaling()
        self.features = features
        self.dropout = nn.Dropout(dropout_rate)
        self.head = init_head(nn.Linear(num_features, NUM_CLASSES))

    def forward(self, chunks_hu: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 2), class 1 is nodule.

        Args:
            chunks_hu: HU, float32 (N, 1, D, H, W).
        """
        return self.head(self.dropout(self.features(self.scaling(chunks_hu))))  # type: ignore[no-any-return]


class MeanOverVoxels(nn.Module):
    """Mean of each channel: (N, C, D, H, W) to (N, C)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the mean features."""
        return features.mean(dim=(2, 3, 4))


def init_head(head: nn.Linear) -> nn.Linear:
    """Initialise a head so that all scores are near 0.5, and return it.

    With the wider distribution of the convolutions the initial loss would be 1.5.
    """
    nn.init.normal_(head.weight, std=0.001)
    nn.init.zeros_(head.bias)
    return head


def begin_convolutions(module: nn.Module) -> None:
    """Re-initialise the weights of all convolutions for a ReLU after each; biases are 0.

    Source:
        He et al.: Delving deep into rectifiers, 2015, arXiv:1502.01852.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
