"""Voxels of ordered DICOM slices.

Uncompressed ones are read from the end of the header on. Compressed files are read by ITK, compressed frames of a
file by pydicom.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError, one_line
from luna_pipeline.core.ct.formats.dicom_headers import DicomSlice
from luna_pipeline.core.ct.formats.itk import read_itk_slices
from luna_pipeline.core.ct.hounsfield import to_hounsfield
from luna_pipeline.core.ct.quiet import quiet_pydicom

# Far above any intercept; its sum with a stored number still fits into 32 bits.
_LARGE = 2**30


def read_slice_voxels(slices: Sequence[DicomSlice], *, series_instance_uid: str) -> NDArray[np.int16]:
    """Read slices in the order given, each with its own rescale slope and intercept.

    Returns:
        HU, shape (I, R, C).

    Raises:
        UnreadableCtError: If pixels do not unpack.
    """
    is_stored_plainly = all(item.first_byte is not None for item in slices)
    if not is_stored_plainly and all(item.frame is None for item in slices):
        is_mixed = len({(item.storage, item.rescale) for item in slices}) > 1
        paths = [item.path for item in slices]
        return read_itk_slices(paths, series_instance_uid=series_instance_uid, is_mixed=is_mixed)
    buffer = np.empty((len(slices), *slices[0].size_rc), dtype=np.int16)
    if is_stored_plainly:
        for place, item in enumerate(slices):
            stored = np.fromfile(item.path, item.storage.dtype, count=buffer[0].size, offset=item.first_byte or 0)
            buffer[place] = _hounsfield(stored.reshape(item.size_rc), item)
    else:
        for path in {item.path: None for item in slices}:
            _read_frames(path, slices, buffer)
    return buffer


def _read_frames(path: Path, slices: Sequence[DicomSlice], buffer: NDArray[np.int16]) -> None:
    """Read the frames of one file into their places of the buffer, a frame in memory at a time."""
    from pydicom.pixels.utils import iter_pixels

    places = [place for place, item in enumerate(slices) if item.path == path]
    frames = [slices[place].frame or 0 for place in places]
    try:
        with quiet_pydicom():
            for place, stored in zip(places, iter_pixels(path, indices=frames, raw=True), strict=True):
                buffer[place] = _hounsfield(stored, slices[place])
    # Each of pydicom's decoders raises other errors.
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, TypeError, OSError) as error:
        uid = slices[0].series_instance_uid
        msg = f"Frames must unpack, got: {one_line(error)} ({path.name}, series {uid}). Store them uncompressed."
        raise UnreadableCtError(msg) from error


def _hounsfield(stored: NDArray[Any], item: DicomSlice) -> NDArray[np.int16]:
    """Convert the stored numbers of one image to HU."""
    # Unused upper bits may hold anything; shifting left and right also extends the sign.
    num_unused_bits = 8 * stored.dtype.itemsize - item.storage.num_used_bits
    values = (stored << num_unused_bits) >> num_unused_bits if num_unused_bits else stored
    slope, intercept = item.rescale
    if slope == 1 and intercept.is_integer() and abs(intercept) < _LARGE:
        # The same result in integers, many times as fast.
        whole = np.add(values, int(intercept), dtype=np.int32)
        return to_hounsfield(whole, series_instance_uid=item.series_instance_uid)
    return to_hounsfield(values * slope + intercept, series_instance_uid=item.series_instance_uid)
