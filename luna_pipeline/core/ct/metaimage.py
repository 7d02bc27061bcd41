"""MetaImage headers (``.mhd``, ``.mha``): does the voxel file hold what its header says?

ITK reads a voxel file that is too long, and a compressed one whose header claims other sizes, without a word:
both give a shifted or half-empty CT. Here the sizes are compared before a voxel is read.

Source:
    https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.hounsfield import check_voxel_kind

# Element type -> numpy's type, byte order aside.
ELEMENT_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# A header is a few hundred bytes; what is longer is no header.
_MAX_HEADER_BYTES = 65536


@dataclass(frozen=True)
class MetaImageHeader:
    """What a MetaImage header says about its voxel file.

    Attributes:
        fields: All keys with their text.
        data_path: File with the voxels; the header's own file for ``ElementDataFile = LOCAL``.
        offset: Bytes before the first voxel, -1 where the voxels are the file's end.
        sizes: Voxels along col, row, index.
        dtype: Numpy's word for a voxel as it is stored, with its byte order.
        num_channels: Numbers a voxel.
        is_compressed: Whether the voxels are zlib-compressed.
        num_compressed_bytes: Their compressed length, None where the header does not say.
    """

    fields: dict[str, str]
    data_path: Path
    offset: int
    sizes: tuple[int, ...]
    dtype: str
    num_channels: int
    is_compressed: bool
    num_compressed_bytes: int | None

    @property
    def num_voxel_bytes(self) -> int:
        """Bytes of all voxels, uncompressed."""
        return math.prod(self.sizes) * np.dtype(self.dtype).itemsize * self.num_channels

    @property
    def description(self) -> str:
        """Sizes and type in words, for messages."""
        return f"{' x '.join(map(str, self.sizes))} {self.fields['ElementType']}"


def read_metaimage_header(path: Path) -> MetaImageHeader:
    """Parse a MetaImage header.

    Raises:
        UnreadableCtError: If a key is missing or is not what it should be.
    """
    fields, num_header_bytes = _read_fields(path)
    try:
        data_file = fields["ElementDataFile"]
        is_local = data_file.upper() == "LOCAL"
        header = MetaImageHeader(
            fields=fields,
            data_path=path if is_local else path.parent / data_file,
            offset=num_header_bytes if is_local else int(fields.get("HeaderSize", "0")),
            sizes=tuple(int(text) for text in fields["DimSize"].split()),
            dtype=(">" if _is_big_endian(fields) else "<") + ELEMENT_TYPES[fields["ElementType"]],
            num_channels=int(fields.get("ElementNumberOfChannels", "1")),
            is_compressed=is_true(fields.get("CompressedData", "False")),
            num_compressed_bytes=int(fields["CompressedDataSize"]) if "CompressedDataSize" in fields else None,
        )
    except (KeyError, ValueError) as error:
        msg = f"A MetaImage header must have valid sizes, type and data file, got {error} ({path.name}). Copy it again."
        raise UnreadableCtError(msg) from error
    if data_file == "LIST" or "%" in data_file:
        msg = (
            f"ElementDataFile must name one file, got {data_file!r} ({path.name}). "
            "Write the CT with a single .raw file."
        )
        raise UnreadableCtError(msg)
    return header


def check_metaimage_kind(header: MetaImageHeader, *, series_instance_uid: str) -> None:
    """Refuse label maps and pictures.

    Raises:
        UnreadableCtError: If a voxel holds several numbers or a single byte.
    """
    check_voxel_kind(
        header.fields["ElementType"],
        num_channels=header.num_channels,
        num_bytes=np.dtype(header.dtype).itemsize,
        series_instance_uid=series_instance_uid,
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


def is_true(text: str) -> bool:
    """Whether MetaIO takes a word for yes: by its first letter."""
    return text[:1] in {"T", "t", "1"}


def _is_big_endian(fields: dict[str, str]) -> bool:
    return is_true(fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")))


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
