"""Random changes of training cutouts: first drawn, then applied, so that each half can be tested alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ranges import check_number

VoxelT = TypeVar("VoxelT", bound=np.generic)
_MASK_64 = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """What may happen to a training cutout.

    Attributes:
        flip_probability: Probability that an axis is mirrored, for each of the three axes by itself.
    """

    flip_probability: float = 0.5

    def __post_init__(self) -> None:
        check_number("augmentation.flip_probability", self.flip_probability, "[0, 1]")


def draw_flips(
    candidate_id: Sequence[int] | NDArray[np.int64], *, seed: int, epoch: int, probability: float
) -> NDArray[np.bool_]:
    """Draw which axes of which cutout are mirrored.

    The draw belongs to (seed, epoch, candidate): neither the order of the batch nor the worker that loads it
    matters, and no state has to be kept between batches.

    Args:
        candidate_id: Candidates of the batch (N,).
        seed: Seed of the run.
        epoch: Epoch, from 1.
        probability: Probability for each axis.

    Returns:
        (N, 3), True where the axis (I, R, C) is mirrored.

    Source:
        Philox, a counter-based generator: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC
        2011).
    """
    philox = np.random.Philox(key=np.array([seed & _MASK_64, epoch], dtype=np.uint64))
    generator, state = np.random.Generator(philox), philox.state
    uniform = np.empty((len(candidate_id), 3))
    for row, identifier in enumerate(candidate_id):
        # A new generator for each candidate would give the same numbers and take five times as long.
        state["state"]["counter"][:] = (0, int(identifier) & _MASK_64, 0, 0)
        philox.state = state
        uniform[row] = generator.random(3)
    return uniform < probability


def flipped(chunk: NDArray[VoxelT], is_flipped_irc: NDArray[np.bool_]) -> NDArray[VoxelT]:
    """Mirror a cutout along the chosen axes.

    Args:
        chunk: Voxels (I, R, C); stays as it is.
        is_flipped_irc: (3,), the axes to mirror.

    Returns:
        A view of ``chunk`` in the new order.
    """
    return chunk[tuple(slice(None, None, -1 if is_flipped else 1) for is_flipped in is_flipped_irc)]
