"""Small three-dimensional networks of MONAI: residual, densely connected, squeeze-and-excitation.

MONAI is imported when such a network is built, because that takes seconds.
"""

from typing import TYPE_CHECKING, cast

from torch import nn

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.parts import MeanOverVoxels, ScaledNetwork, begin_convolutions

if TYPE_CHECKING:
    from monai.networks.blocks.squeeze_and_excitation import SEResNetBottleneck


def resnet(config: NetworkConfig) -> ScaledNetwork:
    """Build a residual network of four levels of basic blocks (ResNet-10 with one block a level, ResNet-18 with two).

    Because nodules are small, its first convolution is 3 voxels wide and no pooling follows it.

    Args:
        config: ``conv_channels`` of the first level. Option ``blocks_per_level`` (1).

    Source:
        He et al.: Deep residual learning for image recognition, 2015, arXiv:1512.03385; in 3D Hara et al.: Can
        spatiotemporal 3D CNNs retrace the history of 2D CNNs and ImageNet?, 2017, arXiv:1711.09577.
    """
    from monai.networks.nets.resnet import ResNet

    (blocks_per_level,) = config.sizes_from_options(blocks_per_level=1)
    channels = [config.conv_channels * 2**level for level in range(config.n_blocks)]
    features = ResNet(
        "basic",
        layers=[blocks_per_level] * config.n_blocks,
        block_inplanes=channels,
        n_input_channels=1,
        conv1_t_size=3,
        conv1_t_stride=2,
        no_max_pool=True,
        feed_forward=False,
        bias_downsample=False,
    )
    return ScaledNetwork(features, channels[-1], dropout_rate=config.dropout_rate)


def densenet(config: NetworkConfig) -> ScaledNetwork:
    """Build a densely connected network: the input of each layer is the output of all layers before it in its level.

    Because nodules are small, no pooling follows the first convolution.

    Args:
        config: Each layer adds ``conv_channels`` channels (growth rate), the first has twice as many. Option
            ``layers_per_level`` (3).

    Source:
        Huang et al.: Densely connected convolutional networks, 2016, arXiv:1608.06993.
    """
    from monai.networks.nets.densenet import DenseNet

    (layers_per_level,) = config.sizes_from_options(layers_per_level=3)
    features = DenseNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        init_features=2 * config.conv_channels,
        growth_rate=config.conv_channels,
        block_config=[layers_per_level] * config.n_blocks,
    )
    num_features = cast(nn.Linear, features.class_layers.out).in_features
    features.features.pool0 = nn.Identity()
    features.class_layers.out = nn.Identity()
    return ScaledNetwork(features, num_features, dropout_rate=config.dropout_rate)


def se_resnet(config: NetworkConfig) -> ScaledNetwork:
    """Build a residual network whose blocks weight their channels by features of the whole cutout.

    Args:
        config: ``conv_channels`` within the first level's blocks, four times as many at their output. Options
            ``blocks_per_level`` (1), ``reduction`` (4: channels for each hidden unit of the weighting).

    Source:
        Hu et al.: Squeeze-and-excitation networks, 2017, arXiv:1709.01507.
    """
    blocks_per_level, reduction = config.sizes_from_options(blocks_per_level=1, reduction=4)
    first = config.conv_channels
    layers: list[nn.Module] = [
        nn.Conv3d(1, first, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm3d(first),
        nn.ReLU(inplace=True),
    ]
    planes = [first * 2**level for level in range(config.n_blocks) for _ in range(blocks_per_level)]
    outgoing = [4 * size for size in planes]
    for position, (incoming, inner) in enumerate(zip([first, *outgoing], planes, strict=False)):
        is_coarser = position > 0 and position % blocks_per_level == 0
        layers.append(_se_block(incoming, inner, reduction=reduction, stride=2 if is_coarser else 1))
    features = nn.Sequential(*layers, MeanOverVoxels())
    begin_convolutions(features)
    return ScaledNetwork(features, outgoing[-1], dropout_rate=config.dropout_rate)


def _se_block(incoming: int, planes: int, *, reduction: int, stride: int) -> "SEResNetBottleneck":
    from monai.networks.blocks.convolutions import Convolution
    from monai.networks.blocks.squeeze_and_excitation import SEResNetBottleneck

    shortcut = None
    if stride != 1 or incoming != 4 * planes:
        shortcut = Convolution(3, incoming, 4 * planes, stride, kernel_size=1, act=None, norm="batch", bias=False)
    return SEResNetBottleneck(3, incoming, planes, 1, reduction, stride=stride, downsample=shortcut)
