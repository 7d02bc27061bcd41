"""A three-dimensional ConvNeXt: depthwise convolutions mix neighbouring voxels, linear layers mix channels.

It has no batch norm: the result for a cutout does not depend on the others of its batch, so training by several
processes equals training by one.

Source:
    Liu et al.: A ConvNet for the 2020s, 2022, arXiv:2201.03545, written from the paper, with a stem of 2 instead of
    4 voxels. Dropping residual branches: Huang et al.: Deep networks with stochastic depth, 2016, arXiv:1603.09382.
"""

import itertools

import torch
from torch import nn

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.parts import ScaledNetwork

# Initial scale of the residual branches (layer scale). The paper uses 1e-6, for runs of hundreds of epochs.
BRANCH_SCALE = 1e-2


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each voxel, (N, C, D, H, W) to the same shape."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return features with mean 0 and variance 1 over the channels, scaled and shifted."""
        normed: torch.Tensor = super().forward(features.permute(0, 2, 3, 4, 1))
        return normed.permute(0, 4, 1, 2, 3)


class ConvNextBlock(nn.Module):
    """A residual block, (N, C, D, H, W) to the same shape.

    Depthwise convolution, norm, a linear layer to four times the channels, GELU, a linear layer back, a learned
    scale for each channel; the whole branch is dropped for some cutouts in training.
    """

    def __init__(self, num_channels: int, *, kernel_size: int, dropout_rate: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv3d(
            num_channels, num_channels, kernel_size, padding=kernel_size // 2, groups=num_channels
        )
        self.norm = nn.LayerNorm(num_channels)
        self.widen = nn.Linear(num_channels, 4 * num_channels)
        self.gelu = nn.GELU()
        self.narrow = nn.Linear(4 * num_channels, num_channels)
        self.branch_scale = nn.Parameter(torch.full((num_channels,), BRANCH_SCALE))
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the sum of the features and the branch."""
        # Channels are the last axis, so that the norm and the linear layers read memory in order.
        branch = self.norm(self.depthwise(features).permute(0, 2, 3, 4, 1))
        branch = self.narrow(self.gelu(self.widen(branch))) * self.branch_scale
        # One draw for each cutout: its whole branch is dropped, or nothing.
        kept = self.dropout(torch.ones_like(features[:, :1, :1, :1, :1]))
        return features + branch.permute(0, 4, 1, 2, 3) * kept  # type: ignore[no-any-return]


class LastFeatures(nn.Module):
    """Mean of each channel over the voxels, normed: (N, C, D, H, W) to (N, C)."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the input of the head."""
        return self.norm(features.mean(dim=(2, 3, 4)))  # type: ignore[no-any-return]


def convnext(config: NetworkConfig) -> ScaledNetwork:
    """Build a ConvNeXt in three dimensions: depthwise convolutions of wide kernels and layer norm.

    Args:
        config: The first level has twice ``conv_channels``, because depthwise convolutions are cheap.
            ``dropout_rate`` is the rate of the last block; earlier blocks have lower rates. Options
            ``blocks_per_level`` (1), ``kernel_size`` (5, odd).

    Raises:
        ValueError: If the kernel size is even.
    """
    blocks_per_level, kernel_size = config.sizes_from_options(blocks_per_level=1, kernel_size=5)
    if kernel_size % 2 == 0:
        msg = f"network.options' kernel_size must be odd, got {kernel_size}. Use {kernel_size + 1}."
        raise ValueError(msg)
    channels = [2 * config.conv_channels * 2**level for level in range(config.n_blocks)]
    num_blocks = config.n_blocks * blocks_per_level
    rates = iter([config.dropout_rate * (position + 1) / num_blocks for position in range(num_blocks)])
    layers: list[nn.Module] = []
    for incoming, outgoing in itertools.pairwise([1, *channels]):
        layers += _halving(incoming, outgoing)
        layers += [
            ConvNextBlock(outgoing, kernel_size=kernel_size, dropout_rate=next(rates)) for _ in range(blocks_per_level)
        ]
    features = nn.Sequential(*layers, LastFeatures(channels[-1]))
    _init_weights(features)
    return ScaledNetwork(features, channels[-1], dropout_rate=0.0)


def _halving(incoming: int, outgoing: int) -> list[nn.Module]:
    """Return the layers that halve the axes; the stem has its norm last, since its input has one channel."""
    convolution = nn.Conv3d(incoming, outgoing, kernel_size=2, stride=2)
    return [convolution, ChannelNorm(outgoing)] if incoming == 1 else [ChannelNorm(incoming), convolution]


def _init_weights(features: nn.Module) -> None:
    """Initialise weights as in the paper (truncated normal, std 0.02) and biases with 0."""
    for layer in features.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
