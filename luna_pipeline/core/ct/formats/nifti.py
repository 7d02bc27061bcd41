"""NIfTI files: ITK reads a truncated one without a word and fills up with zeros; here its length is compared.

Source:
    https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
"""

import math
import struct
from pathlib import Path

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.gzip_files import unpacked_head, unpacked_length

_HEADER_BYTES = 348


def check_nifti_size(path: Path, *, series_instance_uid: str) -> None:
    """Compare a NIfTI file's (unpacked) length with its header; a ``.gz`` is unpacked, keeping nothing.

    Raises:
        UnreadableCtError: If the file is shorter than its header says, does not unpack or is not NIfTI-1.
    """
    where = f"{path.name} of series {series_instance_uid}"
    try:
        expected = _expected_bytes(_head(path))
        got = unpacked_length(path) if is_packed_nifti(path) else path.stat().st_size
    except (struct.error, ValueError) as error:
        msg = f"A NIfTI file must be whole, got {error} ({where}). Copy it again."
        raise UnreadableCtError(msg) from error
    if got < expected:
        msg = f"A NIfTI file must hold the {expected} bytes of its header, got {got} ({where}). Copy it again."
        raise UnreadableCtError(msg)


def is_packed_nifti(path: Path) -> bool:
    """Whether a file's length is known only when it is unpacked."""
    return path.name.lower().endswith(".gz")


def _head(path: Path) -> bytes:
    if is_packed_nifti(path):
        return unpacked_head(path, _HEADER_BYTES)
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES)


def _expected_bytes(head: bytes) -> int:
    """Return offset and voxels of a NIfTI-1 header in bytes."""
    order = "<" if struct.unpack_from("<i", head)[0] == _HEADER_BYTES else ">"
    if struct.unpack_from(f"{order}i", head)[0] != _HEADER_BYTES:
        msg = "no NIfTI-1 header"
        raise struct.error(msg)
    num_axes, *sizes = struct.unpack_from(f"{order}8h", head, 40)
    (num_bits,) = struct.unpack_from(f"{order}h", head, 72)
    (offset,) = struct.unpack_from(f"{order}f", head, 108)
    return int(offset) + math.prod(int(size) for size in sizes[:num_axes]) * int(num_bits) // 8
