"""The voxels of DICOM slices that have been put in order: single images by ITK, frames of a file by pydicom."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.dicom_headers import DicomSlice
from luna_pipeline.core.ct.errors import UnreadableCtError, one_line
from luna_pipeline.core.ct.hounsfield import to_hounsfield
from luna_pipeline.core.ct.itk import read_itk_slices
from luna_pipeline.core.ct.quiet import quiet_pydicom


def read_slice_voxels(slices: Sequence[DicomSlice], *, series_instance_uid: str) -> NDArray[np.int16]:
    """Read slices in the order given; each one's own rescale slope and intercept counts.

    Returns:
        HU, shape (I, R, C).

    Raises:
        UnreadableCtError: If pixels do not unpack.
    """
    if all(item.frame is None for item in slices):
        is_mixed = len({(item.storage, item.rescale) for item in slices}) > 1
        paths = [item.path for item in slices]
        return read_itk_slices(paths, series_instance_uid=series_instance_uid, is_mixed=is_mixed)
    room = np.empty((len(slices), *slices[0].size_rc), dtype=np.int16)
    for path in {item.path: None for item in slices}:
        _read_frames(path, slices, room, uid=series_instance_uid)
    return room


def _read_frames(path: Path, slices: Sequence[DicomSlice], room: NDArray[np.int16], *, uid: str) -> None:
    """Fill the places of one file's frames, a frame in memory at a time."""
    from pydicom.pixels.utils import iter_pixels

    places = [place for place, item in enumerate(slices) if item.path == path]
    frames = [slices[place].frame or 0 for place in places]
    try:
        with quiet_pydicom():
            for place, stored in zip(places, iter_pixels(path, indices=frames, raw=True), strict=True):
                slope, intercept = slices[place].rescale
                room[place] = to_hounsfield(stored * slope + intercept, series_instance_uid=uid)
    # pydicom's decoders raise each in their own way.
    except (ValueError, RuntimeError, AttributeError, NotImplementedError, TypeError, OSError) as error:
        msg = f"Frames must unpack, got: {one_line(error)} ({path.name}, series {uid}). Store them uncompressed."
        raise UnreadableCtError(msg) from error
