"""Check that a CT's numbers are HU: air, tissue and padding are where the Hounsfield scale has them.

Files without units (MetaImage, NRRD, NIfTI) may hold anything: 0 to 4095 without the intercept, 0 to 1, masks, label
maps. Their cutouts would look like cutouts. The check samples about 16,000 voxels, which takes less than a millisecond.
"""

import os

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError

# Air is -1000 HU by definition and lung about -850. Noise of a low dose adds 100 to 200.
_AIR_HU = (-1200, -600)
_MIN_AIR_SHARE = 0.005
# Fat, water, muscle, organs, bone. A few nodules in a synthetic lung are enough.
_TISSUE_HU = -300
_MIN_TISSUE_SHARE = 0.001
# Muscle is 50 HU, with contrast up to 300; without its intercept of -1024 it is above 1000.
_MAX_UPPER_QUARTILE_HU = 600
# Below air there is only padding, which is one or two numbers, and noise.
_MAX_SHARE_BELOW_AIR = 0.05
_NUM_PADDING_VALUES = 2
_SAMPLE_IRC = (16, 32, 32)


def check_plausible_hu(hounsfield: NDArray[np.int16], *, where: str) -> None:
    """Refuse a CT whose numbers cannot be HU.

    Args:
        hounsfield: Shape (I, R, C); only a sample of the voxels is read.
        where: File and series, for the message.

    Raises:
        UnreadableCtError: With the percentiles of the voxels, unless ``LUNA_ASSUME_HU`` is set.
    """
    if os.environ.get("LUNA_ASSUME_HU", "0") not in {"", "0"}:
        return
    sample = _sample_of(hounsfield)
    if (finding := _finding(sample)) is not None:
        low, middle, high = (int(value) for value in np.percentile(sample, [1, 50, 99]))
        rule = f"Voxels must be HU with air near -1000 and tissue near 0, got {finding}; percentiles 1, 50, 99 are"
        msg = f"{rule} {low}, {middle}, {high} ({where}). Write the CT in HU and leave out masks; if these are HU, set"
        raise UnreadableCtError(f"{msg} LUNA_ASSUME_HU=1 or give --assume-hu.")


def _sample_of(hounsfield: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return voxels at even distances, flat; whole memory pages between them are not read."""
    steps = (-(-size // wanted) for size, wanted in zip(hounsfield.shape, _SAMPLE_IRC, strict=True))
    return hounsfield[tuple(slice(step // 2, None, step) for step in steps)].ravel()


def _finding(sample: NDArray[np.int16]) -> str | None:
    """Return what contradicts the Hounsfield scale, None for nothing."""
    below, air = sample[sample < _AIR_HU[0]], np.count_nonzero((sample >= _AIR_HU[0]) & (sample <= _AIR_HU[1]))
    tissue = sample[sample > _TISSUE_HU]
    if air < _MIN_AIR_SHARE * sample.size:
        return f"no air ({_AIR_HU[0]} to {_AIR_HU[1]})"
    if tissue.size < _MIN_TISSUE_SHARE * sample.size:
        return f"no tissue (above {_TISSUE_HU})"
    if (upper := float(np.percentile(tissue, 75))) > _MAX_UPPER_QUARTILE_HU:
        return f"tissue around {upper:.0f}"
    num_stray = _num_stray(below)
    limit = _MAX_SHARE_BELOW_AIR * sample.size
    # Noise spreads padding, too; but then air and tissue are there as well.
    if num_stray > limit and (air < num_stray or tissue.size < limit):
        return f"{num_stray / sample.size:.0%} of many different values below {_AIR_HU[0]}"
    return None


def _num_stray(below: NDArray[np.int16]) -> int:
    """Return how many values are not among the most frequent ones, which are padding."""
    counts = np.sort(np.unique(below, return_counts=True)[1])
    return int(counts[:-_NUM_PADDING_VALUES].sum())
