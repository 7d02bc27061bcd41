"""A small three-dimensional U-Net of MONAI that finds nodules: HU in, a logit for each voxel out."""

import math

import torch
from torch import nn

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.segmenters import HounsfieldWindow

# One nodule voxel in a thousand, so that training does not begin by lowering the score of every voxel.
_INITIAL_SCORE = 0.001
_AIR = -1.0


class VolumeSegmenter(nn.Module):
    """Clamped and scaled HU, a U-Net, logits; volumes of any size are padded with air to what the levels need.

    Attributes:
        is_segmenter: True: the output is a logit for each voxel.
        is_traceable: Batch norms can be folded, see ``folding``.
        window_irc: Voxels of the crops that it was trained on, and of the windows of a whole CT.
    """

    is_segmenter = True
    is_traceable = True

    def __init__(self, unet: nn.Module, multiple_irc: tuple[int, int, int], window_irc: tuple[int, int, int]) -> None:
        """Build the network; each side of the input of ``unet`` must be a multiple of ``multiple_irc``."""
        super().__init__()
        self.window = HounsfieldWindow()
        self.unet = unet
        self.multiple_irc = multiple_irc
        self.window_irc = window_irc

    def forward(self, volumes_hu: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 1, D, H, W) of HU (N, 1, D, H, W)."""
        depth, height, width = volumes_hu.shape[2], volumes_hu.shape[3], volumes_hu.shape[4]
        index, row, col = self.multiple_irc
        padding = (0, -width % col, 0, -height % row, 0, -depth % index)
        scaled = nn.functional.pad(self.window(volumes_hu), padding, value=_AIR)
        return self.unet(scaled)[:, :, :depth, :height, :width]  # type: ignore[no-any-return]


def unet3d(config: NetworkConfig) -> VolumeSegmenter:
    """Build a U-Net whose first convolution halves rows and columns only: slices are thicker than pixels are wide.

    Each further level halves all three axes and doubles the channels. Small nodules keep their outline through the
    transposed convolutions, and no layer works at full resolution with many channels: that takes most of the time of a
    U-Net on a CPU.

    Args:
        config: ``n_blocks`` levels, ``conv_channels`` of the first one, ``dropout_rate`` of values in each convolution.
            Option ``residual_units`` (0): convolutions of each level's residual block, 0 for one convolution without.

    Source:
        Kerfoot et al.: Left-ventricle quantification using residual U-Net, STACOM 2018; MONAI's ``UNet``.
    """
    from monai.networks.nets.unet import UNet

    options = config.checked_options({"residual_units": 0})
    strides = [(1, 2, 2), *[(2, 2, 2)] * (config.n_blocks - 2)]
    unet = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=[config.conv_channels * 2**level for level in range(config.n_blocks)],
        strides=strides,  # type: ignore[arg-type]  # MONAI takes a stride for each axis, too
        num_res_units=int(options["residual_units"]),
        act="RELU",
        norm="BATCH",
        dropout=config.dropout_rate,
    )
    _begin_head(unet)
    rows = 2 ** (config.n_blocks - 1)
    return VolumeSegmenter(unet, (max(rows // 2, 1), rows, rows), config.chunk_shape_irc)


def _begin_head(unet: nn.Module) -> None:
    """Set the bias of the last convolution so that initial scores are near ``_INITIAL_SCORE``."""
    last = [layer for layer in unet.modules() if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)][-1]
    if last.bias is not None:
        nn.init.constant_(last.bias, math.log(_INITIAL_SCORE / (1 - _INITIAL_SCORE)))
