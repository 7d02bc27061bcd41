"""MetaImage headers (``.mhd``, ``.mha``): does the voxel file hold what its header says?

ITK reads a voxel file that is too long, and a compressed one whose header claims other sizes, without a word:
both give a shifted or half-empty CT. Here the sizes are compared before a voxel is read.

Source:
    https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from luna_pipeline.core.ct.errors import UnreadableCtError

ELEMENT_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}
# A header is a few hundred bytes; what is longer is no header.
_MAX_HEADER_BYTES = 65536
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class MetaImageHeader:
    """What a MetaImage header says about its voxel file.

    Attributes:
        data_path: File with the voxels; the header's own file for ``ElementDataFile = LOCAL``.
        offset: Bytes before the first voxel, -1 where the voxels are the file's end.
        num_voxel_bytes: Bytes of all voxels, uncompressed.
        is_compressed: Whether the voxels are zlib-compressed.
        num_compressed_bytes: Their compressed length, None where the header does not say.
        description: Sizes and type in words, for messages.
    """

    data_path: Path
    offset: int
    num_voxel_bytes: int
    is_compressed: bool
    num_compressed_bytes: int | None
    description: str


def read_metaimage_header(path: Path) -> MetaImageHeader:
    """Parse a MetaImage header.

    Raises:
        UnreadableCtError: If a key is missing or is not what it should be.
    """
    fields, num_header_bytes = _read_fields(path)
    try:
        sizes = [int(text) for text in fields["DimSize"].split()]
        element = fields["ElementType"]
        num_channels = int(fields.get("ElementNumberOfChannels", "1"))
        data_file = fields["ElementDataFile"]
        offset = int(fields.get("HeaderSize", "0"))
        num_compressed = int(fields["CompressedDataSize"]) if "CompressedDataSize" in fields else None
        num_voxel_bytes = math.prod(sizes) * ELEMENT_BYTES[element] * num_channels
    except (KeyError, ValueError) as error:
        msg = f"A MetaImage header must have valid sizes, type and data file, got {error} ({path.name}). Copy it again."
        raise UnreadableCtError(msg) from error
    if data_file == "LIST" or "%" in data_file:
        msg = (
            f"ElementDataFile must name one file, got {data_file!r} ({path.name}). "
            "Write the CT with a single .raw file."
        )
        raise UnreadableCtError(msg)
    is_local = data_file.upper() == "LOCAL"
    return MetaImageHeader(
        data_path=path if is_local else path.parent / data_file,
        offset=num_header_bytes if is_local else offset,
        num_voxel_bytes=num_voxel_bytes,
        is_compressed=fields.get("CompressedData", "False").lower() == "true",
        num_compressed_bytes=num_compressed,
        description=f"{' x '.join(map(str, sizes))} {element}",
    )


def check_metaimage_size(header: MetaImageHeader, *, series_instance_uid: str) -> None:
    """Compare the voxel file's length with the header, without reading it.

    Raises:
        UnreadableCtError: If the file is missing, too short or too long; names the bytes expected and got.
    """
    expected = header.num_compressed_bytes if header.is_compressed else header.num_voxel_bytes
    where = f"{header.data_path.name} of series {series_instance_uid}"
    if not header.data_path.is_file():
        msg = f"The voxel file must hold {expected} bytes, got no such file ({where}). Copy it beside its header."
        raise UnreadableCtError(msg)
    if expected is None:
        return
    got = header.data_path.stat().st_size - max(header.offset, 0)
    is_right = got >= expected if header.offset == -1 else got == expected
    if not is_right:
        kind = "compressed voxels" if header.is_compressed else f"voxels ({header.description})"
        msg = f"The {kind} must fill {expected} bytes, got {got} ({where}). Copy header and voxels again."
        raise UnreadableCtError(msg)


def check_compressed_voxels(header: MetaImageHeader, *, series_instance_uid: str) -> None:
    """Unpack a compressed voxel file, keeping nothing, and compare the length with the header.

    Raises:
        UnreadableCtError: If it does not unpack to exactly the voxels that the header announces.
    """
    where = f"{header.data_path.name} of series {series_instance_uid}"
    try:
        got = sum(_unpacked_lengths(header))
    except zlib.error as error:
        msg = f"Compressed voxels must unpack, got {error} ({where}). Copy header and voxels again."
        raise UnreadableCtError(msg) from error
    if got != header.num_voxel_bytes:
        msg = (
            f"The voxels ({header.description}) must fill {header.num_voxel_bytes} bytes unpacked, got {got} "
            f"({where}). Copy header and voxels again."
        )
        raise UnreadableCtError(msg)


def _unpacked_lengths(header: MetaImageHeader) -> Iterator[int]:
    # 32 more than the largest window: a gzip or a zlib head, as ITK's own inflate takes both.
    unpacker = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    with header.data_path.open("rb") as file:
        file.seek(max(header.offset, 0))
        while packed := file.read(_CHUNK_BYTES):
            yield len(unpacker.decompress(packed))
    yield len(unpacker.flush())


def _read_fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the header's keys and the number of bytes up to the first voxel of a LOCAL one."""
    with path.open("rb") as file:
        head = file.read(_MAX_HEADER_BYTES)
    fields: dict[str, str] = {}
    num_bytes = 0
    for line in head.splitlines(keepends=True):
        num_bytes += len(line)
        key, _, value = line.decode("latin-1").partition("=")
        fields[key.strip()] = value.strip()
        # By definition the last key: for LOCAL what follows are voxels.
        if key.strip() == "ElementDataFile":
            break
    return fields, num_bytes
