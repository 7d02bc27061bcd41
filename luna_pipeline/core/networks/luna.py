"""Networks by name, and the original project's: blocks that halve the cutout and double the channels, a linear head.

Shapes: N cutouts, C channels, D, H, W voxels along index, row, col.
"""

import itertools

import torch
from torch import nn

from luna_pipeline.core.networks.batch_norm import BatchNorm
from luna_pipeline.core.networks.config import NETWORKS, NetworkConfig
from luna_pipeline.core.networks.parts import NUM_CLASSES, begin_convolutions, init_head


class LunaBlock(nn.Module):
    """Two convolutions and a halving: (N, C_in, D, H, W) to (N, C_out, D / 2, H / 2, W / 2).

    Depending on the kind, each convolution is followed by a batch norm, a ReLU and a dropout of values or of whole
    channels, or by some of them. A convolution that no norm follows has a bias.
    """

    def __init__(self, kind: str, in_channels: int, conv_channels: int, *, dropout_rate: float) -> None:
        super().__init__()
        has_norm = kind in ("batch_norm", "dropout", "dropout3d")
        dropout = {"dropout": nn.Dropout, "dropout_only": nn.Dropout, "dropout3d": nn.Dropout3d}.get(kind)
        self.drops_single_values = dropout is nn.Dropout
        self.conv1 = _convolution(in_channels, conv_channels, has_bias=not has_norm)
        self.bn1 = BatchNorm(conv_channels) if has_norm else nn.Identity()
        self.dropout1 = dropout(dropout_rate) if dropout else nn.Identity()
        self.conv2 = _convolution(conv_channels, conv_channels, has_bias=not has_norm)
        self.bn2 = BatchNorm(conv_channels) if has_norm else nn.Identity()
        self.dropout2 = dropout(dropout_rate) if dropout else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(kernel_size=2, stride=2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features of the next, coarser level."""
        features = self.dropout1(self.relu(self.bn1(self.conv1(features))))
        features = self.bn2(self.conv2(features))
        if self.drops_single_values:
            return self.maxpool(self.dropout2(self.relu(features)))  # type: ignore[no-any-return]
        # ReLU and scaling of whole channels keep the order of values: pooling first gives exactly the same result from
        # an eighth of the values.
        return self.dropout2(self.relu(self.maxpool(features)))  # type: ignore[no-any-return]


class LunaHead(nn.Module):
    """A linear layer: features (N, C, D, H, W) to logits (N, 2)."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.head_linear = init_head(nn.Linear(in_features, NUM_CLASSES))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return a logit for each class."""
        # Flattened in the order C, D, H, W in every memory format, as imported weights expect.
        return self.head_linear(torch.flatten(features, start_dim=1))  # type: ignore[no-any-return]


class LunaNetwork(nn.Module):
    """Cutouts in HU to logits.

    Names of parts and parameters are those of the original project's network, so that its weights fit. ``head_name``
    and ``is_traceable``: see ``ScaledNetwork``.

    Source:
        Stevens, Antiga, Viehmann: Deep Learning with PyTorch, chapter 11 (blocks ``biased``).
    """

    head_name = "luna_head.head_linear"
    is_traceable = True

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        config.checked_options({})
        # Its running mean and variance scale HU to about 0 +- 1, for any window of the cutouts.
        self.tail_batchnorm = nn.BatchNorm3d(1)
        channels = [1, *(config.conv_channels * 2**level for level in range(config.n_blocks))]
        self.luna_blocks = nn.ModuleList(
            LunaBlock(config.block, incoming, outgoing, dropout_rate=config.dropout_rate)
            for incoming, outgoing in itertools.pairwise(channels)
        )
        num_channels, *size_irc = config.backbone_shape
        self.luna_head = LunaHead(num_channels * size_irc[0] * size_irc[1] * size_irc[2])

    def forward(self, chunks_hu: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 2), class 1 is nodule.

        Args:
            chunks_hu: HU, float32 (N, 1, D, H, W).
        """
        features = self.tail_batchnorm(chunks_hu)
        for block in self.luna_blocks:
            features = block(features)
        return self.luna_head(features)  # type: ignore[no-any-return]


def build_network(config: NetworkConfig) -> nn.Module:
    """Return a new network in channels-last layout: HU float32 to logits, see ``NETWORKS``.

    The attribute ``head_name`` of a classifier names its last linear layer. Torch's random number generator determines
    the weights.

    Raises:
        ValueError: If an option is unknown, or a registered classifier has no such head.
        TypeError: If an option is of the wrong kind.
    """
    network = NETWORKS.get(config.name)(config)
    if not is_segmenter(network):
        head_of(network)
    # Channels last: a training step on a CPU takes a fifth less time.
    return network.to(memory_format=channels_last_of(network))  # type: ignore[call-overload,no-any-return]


def is_segmenter(network: nn.Module) -> bool:
    """Return whether a network returns a logit for each voxel (its attribute ``is_segmenter``), not for each class."""
    return bool(getattr(unwrapped(network), "is_segmenter", False))


def context_slices_of(network: nn.Module) -> int:
    """Return the neighbouring slices on each side that a slice network reads; 0 for a network of volumes."""
    return int(getattr(unwrapped(network), "context_slices", 0))


def channels_last_of(network: nn.Module) -> torch.memory_format:
    """Return the channels-last layout for the input of a network: of slices or of volumes."""
    return torch.channels_last if context_slices_of(network) else torch.channels_last_3d


def head_of(network: nn.Module) -> nn.Linear:
    """Return the last layer, which turns features into logits.

    Raises:
        ValueError: If the network's ``head_name`` names no linear layer with two outputs.
    """
    network = unwrapped(network)
    name = getattr(network, "head_name", None)
    head = dict(network.named_modules()).get(name) if name else None
    if not isinstance(head, nn.Linear) or head.out_features != NUM_CLASSES:
        msg = f"A network's head_name must name its last linear layer, of two outputs, got {name!r}"
        raise ValueError(f"{msg} ({type(network).__name__}). Set the attribute on the class.")
    return head


def scores_of(logits: torch.Tensor) -> torch.Tensor:
    """Return the scores of class 1, (N,) in [0, 1], of logits (N, 2)."""
    return logits.softmax(dim=1)[:, 1]


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the network without parallel or compiled wrappers, which add a prefix to the names of weights."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(getattr(module, "_orig_mod", None), nn.Module):
            module = module._orig_mod  # type: ignore[assignment]
        else:
            return module


def _convolution(in_channels: int, out_channels: int, *, has_bias: bool) -> nn.Conv3d:
    convolution = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=has_bias)
    begin_convolutions(convolution)
    return convolution
