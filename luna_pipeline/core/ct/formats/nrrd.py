"""NRRD files: ITK reads one with bytes too many without a warning; here its length is compared.

Source:
    https://teem.sourceforge.net/nrrd/format.html
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.gzip_files import unpacked_length
from luna_pipeline.core.ct.formats.itk import ItkReader

_PACKED = {"gzip", "gz"}
# Types by their bytes a voxel; "signed", "unsigned", a second "int" and "_t" are left out of the names.
_TYPES = {
    2: {"short", "ushort", "int16", "uint16"},
    4: {"int", "uint", "int32", "uint32", "float"},
    8: {"longlong", "ulonglong", "int64", "uint64", "double"},
}
_TYPE_BYTES = {name: num_bytes for num_bytes, names in _TYPES.items() for name in names}
_MAX_HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class NrrdHeader:
    """The fields of a NRRD header, names in lower case, and where the voxels begin."""

    fields: dict[str, str]
    data_path: Path
    offset: int

    @property
    def is_packed(self) -> bool:
        """Whether the voxels are gzip-compressed."""
        return self.fields.get("encoding", "").lower() in _PACKED

    @property
    def num_voxel_bytes(self) -> int | None:
        """Bytes of all voxels, None where the header does not give it in a usual way."""
        words = self.fields.get("type", "").lower().replace("_t", "").replace("long long", "longlong").split()
        num_bytes = _TYPE_BYTES.get(next((word for word in words if word not in {"signed", "unsigned"}), ""))
        sizes = self.fields.get("sizes", "").split()
        is_usual = self.is_packed or self.fields.get("encoding", "").lower() == "raw"
        has_skips = self.fields.keys() & {"line skip", "lineskip", "byte skip", "byteskip"}
        if num_bytes is None or not is_usual or has_skips or not all(size.isdecimal() for size in sizes):
            return None
        return math.prod(int(size) for size in sizes) * num_bytes


class NrrdReader(ItkReader):
    """Reads NRRD, also with its voxels in a file apart from the header."""

    @cached_property
    def header(self) -> NrrdHeader:
        """The parsed header: lines up to an empty one; what is not understood is left to ITK."""
        with self.path.open("rb") as file:
            head = file.read(_MAX_HEADER_BYTES)
        fields: dict[str, str] = {}
        offset = 0
        for line in head.splitlines(keepends=True):
            offset += len(line)
            if not line.strip():
                break
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.strip().lower()] = value.strip()
        data_file = fields.get("data file", fields.get("datafile"))
        if data_file is None:
            return NrrdHeader(fields, self.path, offset)
        return NrrdHeader(fields, self.path.parent / data_file, 0)

    @property
    def is_packed(self) -> bool:
        """Whether the voxels are gzip-compressed."""
        return self.header.is_packed

    def files(self) -> tuple[Path, ...]:
        """Return the paths of header and voxels, sorted."""
        return tuple(sorted({self.path, self.header.data_path}))

    def check_size(self) -> None:
        """Compare the length of the voxels with the header; packed ones are unpacked, keeping nothing."""
        data_path, expected = self.header.data_path, self.header.num_voxel_bytes
        if expected is None or not data_path.is_file():
            return
        where = f"{data_path.name} of series {self.series_instance_uid}"
        try:
            if self.header.is_packed:
                got = unpacked_length(data_path, offset=self.header.offset)
            else:
                got = data_path.stat().st_size - self.header.offset
        except ValueError as error:
            msg = f"The voxels of a NRRD file must unpack, got {error} ({where}). Copy it again."
            raise UnreadableCtError(msg) from error
        if got != expected:
            msg = f"The voxels of a NRRD file must fill {expected} bytes, got {got} ({where}). Copy it again."
            raise UnreadableCtError(msg)
