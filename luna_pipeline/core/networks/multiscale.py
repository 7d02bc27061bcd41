"""Two views of a cutout: the whole at half resolution, and its middle at full resolution.

Small nodules (4 mm) need the resolution; nodules at a vessel or the pleura need the surroundings. Each view has an
eighth of the cutout's voxels, so the network costs a fraction of one on the whole cutout at full resolution.

Source:
    The idea of several receptive fields fused at the end: Dou et al.: Multilevel contextual 3-D CNNs for false
    positive reduction in pulmonary nodule detection, IEEE TBME 64 (2017); Shen et al.: Multi-scale convolutional
    neural networks for lung nodule classification, IPMI 2015. The blocks are this project's.
"""

import itertools
import math

import torch
from torch import nn

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import LunaBlock
from luna_pipeline.core.networks.parts import ScaledNetwork


class TwoViews(nn.Module):
    """Features of both views: (N, 1, D, H, W) to (N, 2 * C * D' * H' * W')."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.halving = nn.AvgPool3d(2)
        self.whole = _blocks(config)
        self.middle = _blocks(config)

    def forward(self, chunks: torch.Tensor) -> torch.Tensor:
        """Return the features of the whole, then those of the middle."""
        whole = self.whole(self.halving(chunks))
        middle = self.middle(middle_of(chunks))
        # Flattened in the order C, D, H, W in every memory format.
        return torch.cat([torch.flatten(whole, start_dim=1), torch.flatten(middle, start_dim=1)], dim=1)


def middle_of(chunks: torch.Tensor) -> torch.Tensor:
    """Return half of each axis, (N, 1, D, H, W) to (N, 1, D // 2, H // 2, W // 2); the candidate stays in the middle.

    Voxel ``size // 2`` of the cutout becomes voxel ``size // 2 // 2`` of the view.
    """
    for axis in (2, 3, 4):
        half = chunks.shape[axis] // 2
        chunks = chunks.narrow(axis, half - half // 2, half)
    return chunks


def multiscale(config: NetworkConfig) -> ScaledNetwork:
    """Build a network that sees each cutout at two scales: its centre in full detail, and the whole of it, halved.

    Args:
        config: ``block``, ``conv_channels`` and ``dropout_rate`` as for ``luna``; each view has half the size and
            therefore one block less than ``n_blocks``.

    Raises:
        ValueError: If ``n_blocks`` is below 2, or an option is given.
    """
    config.checked_options({})
    if config.n_blocks < 2:
        msg = f"network.n_blocks of multiscale must be at least 2, got {config.n_blocks}. Use more blocks."
        raise ValueError(msg)
    channels = config.conv_channels * 2 ** (config.n_blocks - 2)
    num_voxels = math.prod(size // 2**config.n_blocks for size in config.chunk_shape_irc)
    return ScaledNetwork(TwoViews(config), 2 * channels * num_voxels, dropout_rate=0.0)


def _blocks(config: NetworkConfig) -> nn.Sequential:
    channels = [1, *(config.conv_channels * 2**level for level in range(config.n_blocks - 1))]
    return nn.Sequential(
        *(
            LunaBlock(config.block, incoming, outgoing, dropout_rate=config.dropout_rate)
            for incoming, outgoing in itertools.pairwise(channels)
        )
    )
