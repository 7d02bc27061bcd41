"""NIfTI files: ITK reads a truncated one without a word and fills up with zeros; here its length is compared.

Source:
    https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

from luna_pipeline.core.ct.errors import UnreadableCtError

_HEADER_BYTES = 348
_CHUNK_BYTES = 1 << 20


def check_nifti_size(path: Path, *, series_instance_uid: str) -> None:
    """Compare a NIfTI file's (unpacked) length with its header; a ``.gz`` is unpacked, keeping nothing.

    Raises:
        UnreadableCtError: If the file is shorter than its header says, does not unpack or is not NIfTI-1.
    """
    where = f"{path.name} of series {series_instance_uid}"
    try:
        with _open(path) as file:
            expected = _expected_bytes(file.read(_HEADER_BYTES))
            got = _HEADER_BYTES
            while chunk := file.read(_CHUNK_BYTES):
                got += len(chunk)
    except (struct.error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"A NIfTI file must be whole, got {error} ({where}). Copy it again."
        raise UnreadableCtError(msg) from error
    if got < expected:
        msg = f"A NIfTI file must hold the {expected} bytes of its header, got {got} ({where}). Copy it again."
        raise UnreadableCtError(msg)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]


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
