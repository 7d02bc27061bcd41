"""NRRD files: ITK reads one with bytes too many without a word; here its length is compared.

Source:
    https://teem.sourceforge.net/nrrd/format.html
"""

import math
from dataclasses import dataclass
from pathlib import Path

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.gzip_files import unpacked_length

_PACKED = {"gzip", "gz"}
# Bytes a voxel by the type's name, where "signed", "unsigned", a second "int" and "_t" are left out.
_TYPE_BYTES = {
    "short": 2,
    "ushort": 2,
    "int16": 2,
    "uint16": 2,
    "int": 4,
    "uint": 4,
    "int32": 4,
    "uint32": 4,
    "float": 4,
    "longlong": 8,
    "ulonglong": 8,
    "int64": 8,
    "uint64": 8,
    "double": 8,
}
_MAX_HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class NrrdHeader:
    """The fields of a NRRD header, names in small letters, and where the voxels begin."""

    fields: dict[str, str]
    data_path: Path
    offset: int

    @property
    def is_packed(self) -> bool:
        """Whether the voxels' length is known only when they are unpacked."""
        return self.fields.get("encoding", "").lower() in _PACKED

    @property
    def num_voxel_bytes(self) -> int | None:
        """Bytes of all voxels, None where the header does not say it in a usual way."""
        words = self.fields.get("type", "").lower().replace("_t", "").replace("long long", "longlong").split()
        num_bytes = _TYPE_BYTES.get(next((word for word in words if word not in {"signed", "unsigned"}), ""))
        sizes = self.fields.get("sizes", "").split()
        is_usual = self.is_packed or self.fields.get("encoding", "").lower() == "raw"
        has_skips = self.fields.keys() & {"line skip", "lineskip", "byte skip", "byteskip"}
        if num_bytes is None or not is_usual or has_skips or not all(size.isdecimal() for size in sizes):
            return None
        return math.prod(int(size) for size in sizes) * num_bytes


def read_nrrd_header(path: Path) -> NrrdHeader:
    """Parse a NRRD header: lines up to an empty one; what it makes no sense of is left to ITK."""
    with path.open("rb") as file:
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
        return NrrdHeader(fields, path, offset)
    return NrrdHeader(fields, path.parent / data_file, 0)


def check_nrrd_size(header: NrrdHeader, *, series_instance_uid: str) -> None:
    """Compare the length of the voxels with the header; packed ones are unpacked, keeping nothing.

    Raises:
        UnreadableCtError: If there are too few bytes or too many, or they do not unpack.
    """
    expected = header.num_voxel_bytes
    if expected is None or not header.data_path.is_file():
        return
    where = f"{header.data_path.name} of series {series_instance_uid}"
    try:
        if header.is_packed:
            got = unpacked_length(header.data_path, offset=header.offset)
        else:
            got = header.data_path.stat().st_size - header.offset
    except ValueError as error:
        msg = f"The voxels of a NRRD file must unpack, got {error} ({where}). Copy it again."
        raise UnreadableCtError(msg) from error
    if got != expected:
        msg = f"The voxels of a NRRD file must fill {expected} bytes, got {got} ({where}). Copy it again."
        raise UnreadableCtError(msg)
