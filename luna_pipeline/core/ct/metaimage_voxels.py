"""The voxels of a MetaImage: mapped where they lie as they are used, unpacked once where they are compressed."""

from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.file_maps import mapped_file
from luna_pipeline.core.ct.hounsfield import to_hounsfield
from luna_pipeline.core.ct.metaimage import MetaImageHeader
from luna_pipeline.core.ct.unpacking import UnpackingError

# Small enough that what is unpacked is still in the processor's cache when it is put in its place.
_PACKED_BYTES = 1 << 18


def read_voxels(header: MetaImageHeader, *, series_instance_uid: str) -> NDArray[np.int16]:
    """Return the HU of a MetaImage whose voxel file has been found to have the right length.

    Returns:
        Shape (I, R, C). Little-endian int16 is a read-only map of the file: nothing is copied, and the file must not
        be shortened while the array is in use.

    Raises:
        UnreadableCtError: If compressed voxels do not unpack to exactly what the header announces, or HU are not
            finite.
    """
    if header.is_compressed:
        values: NDArray[Any] = unpacked_voxels(header, series_instance_uid=series_instance_uid)
    else:
        values = _stored_voxels(header)
    return to_hounsfield(values, series_instance_uid=series_instance_uid).reshape(header.sizes[::-1])


def unpacked_voxels(header: MetaImageHeader, *, series_instance_uid: str) -> NDArray[Any]:
    """Unpack compressed voxels into one flat array.

    Raises:
        UnreadableCtError: If they do not unpack to exactly the voxels that the header announces.
    """
    where = f"{header.data_path.name} of series {series_instance_uid}"
    room = np.empty(header.num_voxel_bytes, dtype=np.uint8)
    try:
        got = _unpack(header, room)
    except UnpackingError as error:
        msg = f"Compressed voxels must unpack, got {error} ({where}). Copy header and voxels again."
        raise UnreadableCtError(msg) from error
    if got != header.num_voxel_bytes:
        msg = (
            f"The voxels ({header.description}) must fill {header.num_voxel_bytes} bytes unpacked, got {got} "
            f"({where}). Copy header and voxels again."
        )
        raise UnreadableCtError(msg)
    return room.view(header.dtype)


def _unpack(header: MetaImageHeader, room: NDArray[np.uint8]) -> int:
    """Fill ``room`` and return the bytes found; what it has no room for is counted and dropped."""
    # 32 more than the largest window: a gzip or a zlib head, as ITK's own inflate takes both.
    unpacker = isal_zlib.decompressobj(wbits=32 + isal_zlib.MAX_WBITS)
    got = 0
    with header.data_path.open("rb") as file:
        file.seek(max(header.offset, 0))
        while not unpacker.eof and (packed := file.read(_PACKED_BYTES)):
            part = unpacker.decompress(packed)
            if got + len(part) <= len(room):
                room[got : got + len(part)] = np.frombuffer(part, dtype=np.uint8)
            got += len(part)
    return got


def _stored_voxels(header: MetaImageHeader) -> NDArray[Any]:
    """Return uncompressed voxels, flat: mapped where their type and place allow it, else read into memory."""
    dtype = np.dtype(header.dtype)
    num_bytes = header.num_voxel_bytes
    start = header.data_path.stat().st_size - num_bytes if header.offset == -1 else header.offset
    # Behind a header of odd length the numbers lie across machine words, which not all code can take.
    if dtype != np.dtype("<i2") or start % dtype.itemsize:
        return np.fromfile(header.data_path, dtype=dtype, count=num_bytes // dtype.itemsize, offset=start)
    # Nothing is read yet: who wants one chunk of a CT shall not pay for all of it.
    content = mapped_file(header.data_path)
    return np.frombuffer(content, dtype=dtype, count=num_bytes // dtype.itemsize, offset=start)
