"""What the networks have in common: how HU come in, how logits go out, and how convolutions begin."""

import torch
from torch import nn

NUM_CLASSES = 2


class HounsfieldScaling(nn.Module):
    """HU to numbers near 0 +- 1: -500 HU, between lung and tissue, becomes 0, and 500 HU are 1.

    Fixed, so that a network without batch norm depends on nothing but its weights.
    """

    def forward(self, chunks_hu: torch.Tensor) -> torch.Tensor:
        """Return cutouts of the same shape."""
        return (chunks_hu + 500.0) / 500.0


class ScaledNetwork(nn.Module):
    """Scaling, features, dropout, head: cutouts in HU to logits.

    Attributes:
        head_name: Name of the linear layer at the end, which a fine-tuning may train alone.
        is_traceable: Whether ``forward`` takes the same steps for all cutouts, so that they can be written down
            (see ``folding``).
    """

    head_name = "head"
    is_traceable = True

    def __init__(self, features: nn.Module, num_features: int, *, dropout_rate: float) -> None:
        """Put the parts together.

        Args:
            features: Maps scaled cutouts (N, 1, D, H, W) to features (N, num_features).
            num_features: Features of a cutout.
            dropout_rate: Probability that a feature is dropped in training.
        """
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
    """The mean of each channel: (N, C, D, H, W) to (N, C)."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the mean features."""
        return features.mean(dim=(2, 3, 4))


def init_head(head: nn.Linear) -> nn.Linear:
    """Initialise a head so that all scores are near 0.5, and return it.

    Drawn as wide as the convolutions are, it would first have to unlearn a loss of 1.5.
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
