"""Conversion of a file's numbers to HU as int16, the same for every format."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError

_INT16 = np.iinfo(np.int16)
_PART_VOXELS = 1 << 20


def to_hounsfield(values: NDArray[Any], *, series_instance_uid: str) -> NDArray[np.int16]:
    """Round fractions and clip to the range of int16.

    Args:
        values: HU of any number type and shape.
        series_instance_uid: For the message.

    Returns:
        The same shape; ``values`` itself where it is int16 already.

    Raises:
        UnreadableCtError: If a value is not finite.
    """
    if values.dtype == np.int16:
        return values
    flat, hounsfield = values.reshape(-1), np.empty(values.size, dtype=np.int16)
    num_bad = 0
    # A part at a time, to avoid temporary copies of the whole CT as floats.
    for start in range(0, flat.size, _PART_VOXELS):
        part = flat[start : start + _PART_VOXELS]
        if np.issubdtype(part.dtype, np.floating):
            is_finite = np.isfinite(part)
            num_bad += int(np.count_nonzero(~is_finite))
            part = np.rint(part, where=is_finite, out=np.zeros_like(part))
        hounsfield[start : start + len(part)] = np.clip(part, _INT16.min, _INT16.max)
    if num_bad:
        raise UnreadableCtError(
            f"HU must be finite, got {num_bad} voxels that are not (series {series_instance_uid}). Write the CT again."
        )
    return hounsfield.reshape(values.shape)


def check_voxel_kind(kind: str, num_channels: int, num_bytes: int, *, series_instance_uid: str) -> None:
    """Refuse label maps and pictures: HU need 12 bits and one number a voxel.

    Raises:
        UnreadableCtError: If a voxel holds several numbers or a single byte; ``kind`` names the type.
    """
    if num_channels != 1 or num_bytes < 2:
        raise UnreadableCtError(
            f"A CT must hold one number of 16 bits or more per voxel, got {num_channels} of {kind} "
            f"(series {series_instance_uid}). Leave label maps and pictures out of the data folder."
        )
