"""NIfTI files: ITK reads a truncated one without a warning and fills up with zeros; here its length is compared.

Source:
    https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
"""

import math
import struct

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.gzip_files import unpacked_head, unpacked_length
from luna_pipeline.core.ct.formats.itk import ItkReader

_HEADER_BYTES = 348


class NiftiReader(ItkReader):
    """Reads NIfTI-1."""

    @property
    def is_packed(self) -> bool:
        """Whether it is a ``.gz``."""
        return self.path.name.lower().endswith(".gz")

    def check_size(self) -> None:
        """Compare the (unpacked) length with the header; a ``.gz`` is unpacked, keeping nothing."""
        where = f"{self.path.name} of series {self.series_instance_uid}"
        try:
            expected = _expected_bytes(self._head())
            got = unpacked_length(self.path) if self.is_packed else self.path.stat().st_size
        except (struct.error, ValueError) as error:
            raise UnreadableCtError(f"A NIfTI file must be whole, got {error} ({where}). Copy it again.") from error
        if got < expected:
            msg = f"A NIfTI file must hold the {expected} bytes of its header, got {got} ({where}). Copy it again."
            raise UnreadableCtError(msg)

    def _head(self) -> bytes:
        if self.is_packed:
            return unpacked_head(self.path, _HEADER_BYTES)
        with self.path.open("rb") as file:
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
