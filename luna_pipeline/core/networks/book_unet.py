"""The two-dimensional U-Net of the book: seven neighbouring slices to the segmentation of the middle one.

Shapes: N slices, C channels, H, W pixels along row, col.
"""

import torch
from torch import nn
from torch.nn import functional

from luna_pipeline.core.networks.config import NetworkConfig

CONTEXT_SLICES = 3
HU_RANGE = (-1000.0, 1000.0)


class BookUnet(nn.Module):
    """Slices in HU to logits; names of parts and parameters are the book's, so that its published weights fit.

    The book's network ends with a sigmoid, which is left out here: the output are logits.

    Attributes:
        is_segmenter: True: the output is a logit for each pixel.
        context_slices: Neighbouring slices on each side of the segmented one.
        size_multiple: H and W must be multiples of it.
        reach_pixels: Distance up to which a pixel affects a logit.

    Source:
        Stevens, Antiga, Viehmann: Deep Learning with PyTorch, 2020, chapter 13.
        Ronneberger, Fischer, Brox: U-Net, 2015, arXiv:1505.04597.
    """

    is_segmenter = True
    is_traceable = True
    context_slices = CONTEXT_SLICES

    def __init__(self, config: NetworkConfig) -> None:
        """Build the network with ``n_blocks`` levels, the first of ``conv_channels`` channels."""
        super().__init__()
        config.checked_options({})
        num_slices = 2 * CONTEXT_SLICES + 1
        self.size_multiple = 2 ** (config.n_blocks - 1)
        # Two convolutions a level on the way down and up, the coarsest one once, and the alignment of the levels.
        self.reach_pixels = 2 * (2**config.n_blocks - 1) + 4 * (self.size_multiple - 1)
        self.input_batchnorm = nn.BatchNorm2d(num_slices)
        self.unet = _Unet(num_slices, [config.conv_channels * 2**level for level in range(config.n_blocks)])

    def forward(self, slices_hu: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, 1, H, W) of the middle slices.

        Args:
            slices_hu: HU, float32 (N, 7, H, W); H and W are multiples of ``size_multiple``.
        """
        return self.unet(self.input_batchnorm(slices_hu.clamp(*HU_RANGE)))  # type: ignore[no-any-return]


class _Unet(nn.Module):
    """Features of finer and finer levels, each joined with those of the same level on the way down."""

    def __init__(self, in_channels: int, channels: list[int]) -> None:
        super().__init__()
        incoming = [in_channels, *channels[:-1]]
        self.down_path = nn.ModuleList(_Layers(first, size) for first, size in zip(incoming, channels, strict=True))
        finer = zip(channels[:0:-1], channels[-2::-1], strict=True)
        self.up_path = nn.ModuleList(_Up(coarse, fine) for coarse, fine in finer)
        self.last = nn.Conv2d(channels[0], 1, kernel_size=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        by_level: list[torch.Tensor] = []
        for layers in self.down_path:
            features = layers(functional.avg_pool2d(features, 2) if by_level else features)
            by_level.append(features)
        for up, of_level in zip(self.up_path, by_level[-2::-1], strict=True):
            features = up(features, of_level)
        return self.last(features)  # type: ignore[no-any-return]


class _Up(nn.Module):
    """A transposed convolution to the next finer level, and the layers of that level."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.conv_block = _Layers(2 * out_channels, out_channels)

    def forward(self, features: torch.Tensor, of_level: torch.Tensor) -> torch.Tensor:
        return self.conv_block(torch.cat([self.up(features), of_level], dim=1))  # type: ignore[no-any-return]


class _Layers(nn.Module):
    """Two convolutions, each followed by a ReLU and a batch norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(out_channels),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.block(features)  # type: ignore[no-any-return]
