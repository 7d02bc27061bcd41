"""Random changes of training cutouts: configuration, random draws, and the affine maps of the voxels.

``augmenting.py`` applies them; this module does not import torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.checks import check_number, check_parts

_MASK_64 = 2**64 - 1
_NUM_WORDS = 15
"""Random words of a cutout: 3 for Flip, 4 each for Offset and Scale, 2 for Rotate, 2 for Noise."""


_INTERVALS = {
    "offset.share": "[0, 1]",
    "scale.share": "[0, 1)",
    "rotate.degrees": "[0, 180]",
    "noise.std_hu": "[0, inf)",
}


class _Change:
    """A random change with a probability; checks its numbers."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            place = f"{type(self).__name__.lower()}.{name}"
            check_number(f"augmentation.{place}", value, _INTERVALS.get(place, "[0, 1]"))


@dataclass(frozen=True, kw_only=True)
class Flip(_Change):
    """Mirror a cutout.

    Attributes:
        probability: Probability for each of the three axes.
    """

    probability: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Offset(_Change):
    """Shift a cutout along each axis.

    Attributes:
        probability: Probability for a cutout.
        share: Largest shift, as a share of half the cutout: 0.1 shifts 48 voxels by up to 2.4.
    """

    probability: float = 0.0
    share: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Scale(_Change):
    """Scale the voxel distance along each axis.

    Attributes:
        probability: Probability for a cutout.
        share: Largest change: 0.2 gives factors from 0.8 to 1.2.
    """

    probability: float = 0.0
    share: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Rotate(_Change):
    """Rotate all slices of a cutout by one angle.

    Attributes:
        probability: Probability for a cutout.
        degrees: Largest angle in either direction, in degrees.
    """

    probability: float = 0.0
    degrees: float = 180.0


@dataclass(frozen=True, kw_only=True)
class Noise(_Change):
    """Add Gaussian noise of mean 0 to each voxel.

    Attributes:
        probability: Probability for a cutout.
        std_hu: Standard deviation of the noise in HU.
    """

    probability: float = 0.0
    std_hu: float = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """Random changes of a training cutout; by default only mirroring."""

    flip: Flip = field(default_factory=Flip)
    offset: Offset = field(default_factory=Offset)
    scale: Scale = field(default_factory=Scale)
    rotate: Rotate = field(default_factory=Rotate)
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self) -> None:
        check_parts(self, "augmentation.")

    @classmethod
    def all_five(cls) -> "AugmentationConfig":
        """Return every change as strong as the original project's, on every cutout; axes are mirrored half the time."""
        return cls(
            offset=Offset(probability=1.0),
            scale=Scale(probability=1.0),
            rotate=Rotate(probability=1.0),
            noise=Noise(probability=1.0),
        )

    @property
    def changes_nothing(self) -> bool:
        """Whether no cutout is ever changed."""
        parts = (self.flip, self.offset, self.scale, self.rotate, self.noise)
        return all(part.probability == 0 for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationDraws:
    """Random draws for N cutouts.

    Attributes:
        is_flipped_irc: (N, 3), the axes to mirror.
        offset_share_irc: (N, 3), shifts as shares of half the cutout.
        scale_irc: (N, 3), factors of the voxel distance; 1 for no scaling.
        angle_rad: (N,), angles in the slice plane, in radians.
        noise_std_hu: (N,), standard deviations in HU; 0 for no noise.
        noise_key: (N,), seeds of the noise.
    """

    is_flipped_irc: NDArray[np.bool_]
    offset_share_irc: NDArray[np.float64]
    scale_irc: NDArray[np.float64]
    angle_rad: NDArray[np.float64]
    noise_std_hu: NDArray[np.float32]
    noise_key: NDArray[np.uint64]

    @property
    def only_flips(self) -> bool:
        """Whether cutouts are at most mirrored, without interpolation or noise."""
        is_still = not self.offset_share_irc.any() and not self.angle_rad.any() and bool((self.scale_irc == 1).all())
        return is_still and not self.noise_std_hu.any()

    def input_maps(self, shape_irc: Sequence[int]) -> NDArray[np.float64]:
        """Return the affine maps from output voxels to input voxels.

        Relative to the middle of the cutout, output voxel ``p`` has the value at ``flip * scale * (R p) + offset``,
        where ``R`` is the rotation in the slice plane.

        Args:
            shape_irc: Voxels of a cutout along index, row and col.

        Returns:
            (N, 3, 4): input voxel = ``map[:, :3] @ output voxel + map[:, 3]``, in voxels from the first, in the order
            I, R, C. Mirroring alone gives whole numbers without any rounding.

        Source:
            The product of matrices of the original project, which uses units of half a cutout and so shears slices that
            are not square.
        """
        size = np.asarray(shape_irc, dtype=np.float64)
        center = (size - 1) / 2
        cosine, sine = np.cos(self.angle_rad), np.sin(self.angle_rad)
        maps = np.zeros((len(self.angle_rad), 3, 4))
        maps[:, 0, 0] = 1
        maps[:, 1, 1], maps[:, 1, 2] = cosine, sine
        maps[:, 2, 1], maps[:, 2, 2] = -sine, cosine
        maps *= (np.where(self.is_flipped_irc, -1, 1) * self.scale_irc)[:, :, None]
        maps[:, :, 3] = center - maps[:, :, :3] @ center + self.offset_share_irc * size / 2
        return maps


def draw_augmentations(
    config: AugmentationConfig, candidate_id: NDArray[np.int64], repeat: NDArray[np.int64], *, seed: int, epoch: int
) -> AugmentationDraws:
    """Return the random draws for a batch, in its order.

    A draw depends on (seed, epoch, candidate, repeat) only, not on the order of the batch or the process that loads it.
    Each change has separate random numbers: enabling one does not alter the others.

    Args:
        config: The changes.
        candidate_id: Candidates of the batch (N,).
        repeat: Number of earlier draws of each candidate in the epoch (N,); -1 for a sample to ignore.
        seed: Seed of the run.
        epoch: Epoch, from 1.

    Raises:
        ValueError: If the lengths differ.
    """
    words = _random_words(candidate_id, repeat, seed=seed, epoch=epoch)
    uniform = (words >> np.uint64(11)) * 2.0**-53
    signed = 2 * uniform - 1
    is_offset, is_scaled, is_turned, is_noisy = (
        uniform[:, word] < part.probability
        for word, part in ((3, config.offset), (7, config.scale), (11, config.rotate), (13, config.noise))
    )
    return AugmentationDraws(
        is_flipped_irc=uniform[:, :3] < config.flip.probability,
        offset_share_irc=is_offset[:, None] * config.offset.share * signed[:, 4:7],
        scale_irc=1 + is_scaled[:, None] * config.scale.share * signed[:, 8:11],
        angle_rad=is_turned * np.radians(config.rotate.degrees) * signed[:, 12],
        noise_std_hu=(is_noisy * config.noise.std_hu).astype(np.float32),
        noise_key=words[:, 14].copy(),
    )


def _random_words(
    candidate_id: NDArray[np.int64], repeat: NDArray[np.int64], *, seed: int, epoch: int
) -> NDArray[np.uint64]:
    """Return 15 words of 64 random bits for each cutout (N, 15).

    Source:
        Philox, a counter-based generator: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
    """
    if candidate_id.shape != repeat.shape:
        msg = f"Each candidate must have its repeat, got {candidate_id.shape} candidates and {repeat.shape} repeats."
        raise ValueError(f"{msg} Hand over both of the same batch.")
    philox = np.random.Philox(key=np.array([seed & _MASK_64, epoch], dtype=np.uint64))
    state = philox.state
    words = np.empty((len(candidate_id), _NUM_WORDS), dtype=np.uint64)
    for row, (identifier, times) in enumerate(zip(candidate_id.tolist(), repeat.tolist(), strict=True)):
        # A new generator for each candidate gives the same numbers and takes five times as long.
        state["state"]["counter"][:] = (0, identifier & _MASK_64, times & _MASK_64, 0)
        philox.state = state
        words[row] = philox.random_raw(_NUM_WORDS)
    return words
