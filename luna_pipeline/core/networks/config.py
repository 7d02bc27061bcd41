"""Configurations of networks and losses; torch is not imported, so that the command line starts quickly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from luna_pipeline.core.config.checks import check_choice, check_integer, check_number, check_tuple
from luna_pipeline.core.config.registry import Registry

if TYPE_CHECKING:
    from torch import nn

Frozen = Literal["nothing", "batch_norm", "backbone"]
FROZEN: tuple[str, ...] = get_args(Frozen)
BlockName = Literal["biased", "batch_norm", "dropout", "dropout3d", "dropout_only"]
BLOCK_NAMES: tuple[str, ...] = get_args(BlockName)
Scalar = bool | int | float | str

# Each builds a network from a NetworkConfig. Classifiers: HU float32 (N, 1, D, H, W) to logits (N, 2). Segmenters (see
# ``luna.is_segmenter``): to a logit for each voxel (N, 1, D, H, W), or of slices (N, 2 c + 1, H, W) to (N, 1, H, W).
NETWORKS: "Registry[Callable[[NetworkConfig], nn.Module]]" = Registry(
    "network",
    {
        "luna": "luna_pipeline.core.networks.luna:LunaNetwork",
        "resnet": "luna_pipeline.core.networks.monai:resnet",
        "densenet": "luna_pipeline.core.networks.monai:densenet",
        "se_resnet": "luna_pipeline.core.networks.monai:se_resnet",
        "convnext": "luna_pipeline.core.networks.convnext:convnext",
        "multiscale": "luna_pipeline.core.networks.multiscale:multiscale",
        "book_unet": "luna_pipeline.core.networks.book_unet:BookUnet",
        "unet3d": "luna_pipeline.core.networks.unet3d:unet3d",
    },
)
# Each builds a loss from a LossConfig: logits (N, 2) and labels (N,), or in segmentation logits and masks (N, 1, ...),
# to the loss of each sample (N,).
MASK_LOSSES = ("dice", "dice_focal")
LOSSES: "Registry[Callable[[LossConfig], nn.Module]]" = Registry(
    "loss",
    {
        name: f"luna_pipeline.core.networks.losses:{name}"
        for name in ("cross_entropy", "weighted_cross_entropy", "focal")
    }
    | {name: f"luna_pipeline.core.networks.mask_losses:{name}" for name in MASK_LOSSES},
)
# Halvings of a cutout beyond n_blocks; strided convolutions round up, so the two residual networks need one less.
# The first level of a U-Net has the full size.
_HALVINGS = {
    "luna": 0,
    "resnet": -1,
    "densenet": 0,
    "se_resnet": -1,
    "convnext": 0,
    "multiscale": 0,
    "book_unet": -1,
    "unet3d": -1,
}
# MONAI's residual network always has four levels.
_RESNET_LEVELS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Parts and sizes of a classification network; docs/reference/models.md describes their meaning for each network.

    Attributes:
        name: ``luna``, ``resnet``, ``densenet``, ``se_resnet``, ``convnext``, ``multiscale``, for segmentation
            ``unet3d`` or ``book_unet``, or a registered one (``NETWORKS``).
        block: Kind of the convolution blocks of ``luna`` and ``multiscale`` (see ``LunaBlock``).
        n_blocks: Number of levels; each halves the three axes and doubles the channels.
        conv_channels: Channels of the first level.
        dropout_rate: Probability of dropout in training. ``luna`` and ``multiscale``: of a value (``dropout``,
            ``dropout_only``) or a whole channel (``dropout3d``) in each block, unused in other blocks; ``convnext``:
            of a residual branch; the others: of a value in front of the head.
        chunk_shape_irc: Voxels of a cutout; at least one must be left along each axis after the last level.
        options: Options of single networks, pairs of name and value: ``(("blocks_per_level", 2),)``.
    """

    name: str = "luna"
    block: BlockName = "dropout3d"
    n_blocks: int = 4
    conv_channels: int = 8
    dropout_rate: float = 0.2
    chunk_shape_irc: tuple[int, int, int] = (32, 48, 48)
    options: tuple[tuple[str, Scalar], ...] = ()

    def __post_init__(self) -> None:
        NETWORKS.check(self.name)
        check_choice("network.block", self.block, BLOCK_NAMES)
        check_integer("network.n_blocks", self.n_blocks, at_least=1, at_most=8)
        check_integer("network.conv_channels", self.conv_channels, at_least=1)
        check_number("network.dropout_rate", self.dropout_rate, "[0, 1)")
        _check_options(self.options)
        if self.name == "resnet" and self.n_blocks != _RESNET_LEVELS:
            msg = f"network.n_blocks of a resnet must be {_RESNET_LEVELS}, got {self.n_blocks}. Use another network."
            raise ValueError(msg)
        place, sizes = "network.chunk_shape_irc", self.chunk_shape_irc
        check_tuple(place, sizes, "three whole numbers", example="[32, 48, 48]")
        for position, size in enumerate(sizes):
            check_integer(f"{place}[{position}]", size, at_least=1)
        if len(sizes) != 3 or min(sizes) < self.smallest_size:
            msg = (
                f"network.chunk_shape_irc must hold three sizes of at least {self.smallest_size} voxels (halved by "
                f"each of {self.n_blocks} blocks), got {self.chunk_shape_irc}. Use larger cutouts or fewer blocks."
            )
            raise ValueError(msg)

    @property
    def smallest_size(self) -> int:
        """Fewest voxels of a cutout along an axis; 1 for a registered network, which must check its input."""
        return int(2 ** max(self.n_blocks + _HALVINGS[self.name], 0)) if self.name in _HALVINGS else 1

    @property
    def backbone_shape(self) -> tuple[int, int, int, int]:
        """Channels, then voxels I, R, C of the output of ``luna``'s last block; (64, 2, 3, 3) by default."""
        index, row, col = (size // 2**self.n_blocks for size in self.chunk_shape_irc)
        return (self.conv_channels * 2 ** (self.n_blocks - 1), index, row, col)

    def checked_options(self, defaults: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return the options of a network; ``defaults`` holds all that it has.

        Raises:
            ValueError: If an option is unknown.
            TypeError: If one is of another kind than its default.
        """
        given = dict(self.options)
        for name, value in given.items():
            if name not in defaults:
                known = ", ".join(defaults) or "none"
                msg = f"network.options of {self.name} must be among: {known}, got {name!r}. Leave it out."
                raise ValueError(msg)
            if type(value) is not type(defaults[name]):
                kind = type(defaults[name]).__name__
                msg = f"network.options' {name} must be a value of kind {kind}, got {value!r}. Give such a value."
                raise TypeError(msg)
        return {**defaults, **given}

    def sizes_from_options(self, **defaults: int) -> tuple[int, ...]:
        """Return the options of a network whose options are all sizes, in the order of the defaults.

        Raises:
            ValueError: If an option is unknown, or a size below 1.
            TypeError: If a size is not a whole number.
        """
        values = self.checked_options(defaults)
        for name in defaults:
            check_integer(f"network.options' {name}", values[name], at_least=1)
        return tuple(int(values[name]) for name in defaults)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Loss that training minimises.

    Attributes:
        name: ``cross_entropy``, ``weighted_cross_entropy``, ``focal``; for segmentation ``dice``, ``dice_focal``; or a
            registered one (``LOSSES``).
        positive_weight: Factor on the loss of samples, or voxels, of class 1; ``cross_entropy`` and ``dice`` ignore it.
        focusing: Exponent by which ``focal`` and ``dice_focal`` reduce the weight of well classified samples or voxels
            (gamma of the paper); 0 gives the cross-entropy. Other losses ignore it.
    """

    name: str = "cross_entropy"
    positive_weight: float = 1.0
    focusing: float = 2.0

    def __post_init__(self) -> None:
        LOSSES.check(self.name)
        check_number("loss.positive_weight", self.positive_weight, "(0, inf)")
        check_number("loss.focusing", self.focusing, "[0, inf)")
        if 0 < self.focusing < 1:
            # x**focusing has an infinite slope at 0, the value of a surely correct sample: its gradient is nan.
            msg = f"loss.focusing must be 0 or at least 1, got {self.focusing}. Use 2, as in the paper."
            raise ValueError(msg)


def _check_options(options: object) -> None:
    is_pairs = isinstance(options, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Scalar)
        for pair in options
    )
    if not is_pairs:
        msg = f"network.options must be pairs of a name and a plain value, got {options!r}."
        raise TypeError(f"{msg} Write (('blocks_per_level', 2),).")
    names = [name for name, _ in options]  # type: ignore[attr-defined]
    if len(set(names)) != len(names):
        msg = f"network.options must name each option once, got {names}. Leave one out."
        raise ValueError(msg)
