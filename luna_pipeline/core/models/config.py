"""What a network is made of, as a value; no torch here, so that a command line can read it quickly."""

from dataclasses import dataclass
from typing import Literal, get_args

from luna_pipeline.core.ranges import check_choice, check_integer, check_number

BlockName = Literal["biased", "batch_norm", "dropout", "dropout3d", "dropout_only"]
BLOCK_NAMES: tuple[str, ...] = get_args(BlockName)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Parts and sizes of a classification network.

    Attributes:
        block: Kind of the convolution blocks (see ``networks``).
        n_blocks: Number of blocks; each halves the three axes and doubles the channels.
        conv_channels: Channels of the first block.
        dropout_rate: Probability that a value (``dropout``, ``dropout_only``) or a whole channel
            (``dropout3d``) is dropped in training; the other blocks have no dropout.
        chunk_shape_irc: Voxels of a cutout; at least one voxel must be left along each axis after the last
            block.
    """

    block: BlockName = "dropout3d"
    n_blocks: int = 4
    conv_channels: int = 8
    dropout_rate: float = 0.2
    chunk_shape_irc: tuple[int, int, int] = (32, 48, 48)

    def __post_init__(self) -> None:
        check_choice("network.block", self.block, BLOCK_NAMES)
        check_integer("network.n_blocks", self.n_blocks, at_least=1, at_most=8)
        check_integer("network.conv_channels", self.conv_channels, at_least=1)
        check_number("network.dropout_rate", self.dropout_rate, "[0, 1)")
        if len(self.chunk_shape_irc) != 3 or min(self.chunk_shape_irc) < 2**self.n_blocks:
            msg = (
                f"network.chunk_shape_irc must hold three sizes of at least {2**self.n_blocks} voxels (halved by each "
                f"of {self.n_blocks} blocks), got {self.chunk_shape_irc}. Use larger cutouts or fewer blocks."
            )
            raise ValueError(msg)

    @property
    def backbone_shape(self) -> tuple[int, int, int, int]:
        """Channels, then voxels I, R, C that the last block hands to the head; (64, 2, 3, 3) by default."""
        index, row, col = (size // 2**self.n_blocks for size in self.chunk_shape_irc)
        return (self.conv_channels * 2 ** (self.n_blocks - 1), index, row, col)
