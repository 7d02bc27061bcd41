"""From the numbers in a file to HU as int16: one rule for every format."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError

_INT16 = np.iinfo(np.int16)


def to_hounsfield(values: NDArray[Any], *, series_instance_uid: str) -> NDArray[np.int16]:
    """Round fractions and take what int16 cannot hold to its limits.

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
    if np.issubdtype(values.dtype, np.floating):
        num_bad = int(np.sum(~np.isfinite(values)))
        if num_bad:
            msg = (
                f"HU must be finite, got {num_bad} voxels that are not (series {series_instance_uid}). "
                "Write the CT again."
            )
            raise UnreadableCtError(msg)
        values = np.rint(values)
    return np.asarray(np.clip(values, _INT16.min, _INT16.max), dtype=np.int16)


def check_voxel_kind(kind: str, *, num_channels: int, num_bytes: int, series_instance_uid: str) -> None:
    """Refuse label maps and pictures: HU need 12 bits and are one number a voxel.

    Raises:
        UnreadableCtError: If a voxel holds several numbers or a single byte; ``kind`` says of which type.
    """
    if num_channels != 1 or num_bytes < 2:
        msg = (
            f"A CT must hold one number of 16 bits or more per voxel, got {num_channels} of {kind} "
            f"(series {series_instance_uid}). Leave label maps and pictures out of the data folder."
        )
        raise UnreadableCtError(msg)
