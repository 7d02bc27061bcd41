"""MetaImage headers (``.mhd``, ``.mha``): does the voxel file hold what its header says?

ITK reads a voxel file that is too long, and a compressed one whose header claims other sizes, without a word:
both give a shifted or half-empty CT. Here the sizes are compared before a voxel is read.

Source:
    https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.file_maps import mapped_file
from luna_pipeline.core.ct.formats.gzip_files import UnpackingError
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.hounsfield import check_voxel_kind, to_hounsfield

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


# Synonyms; where a header has several, MetaIO's own rules decide, and ITK is asked.
_ORIGIN_KEYS = ("Offset", "Position", "Origin")
_DIRECTION_KEYS = ("TransformMatrix", "Orientation", "Rotation")
_BYTE_ORDER_KEYS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")


def grid_of_header(header: MetaImageHeader) -> VoxelGrid | None:
    """Return where the voxels lie, None where a header is unusual and ITK must be asked.

    Raises:
        ValueError: If a spacing or the direction makes no sense.
    """
    fields = header.fields
    spacing_key = "ElementSpacing" if "ElementSpacing" in fields else "ElementSize"
    spacing_mm = _numbers(fields.get(spacing_key, "1 1 1"), 3)
    origin_xyz = _numbers(_first_of(fields, _ORIGIN_KEYS, "0 0 0"), 3)
    axes = _numbers(_first_of(fields, _DIRECTION_KEYS, "1 0 0 0 1 0 0 0 1"), 9)
    if not _is_usual(header) or spacing_mm is None or origin_xyz is None or axes is None:
        return None
    num_cols, num_rows, num_slices = header.sizes
    return VoxelGrid(
        size_irc=(num_slices, num_rows, num_cols),
        spacing_mm=(spacing_mm[0], spacing_mm[1], spacing_mm[2]),
        origin_xyz=(origin_xyz[0], origin_xyz[1], origin_xyz[2]),
        direction=tuple(float(value) for value in np.reshape(axes, (3, 3)).T.ravel()),
    )


def _is_usual(header: MetaImageHeader) -> bool:
    fields = header.fields
    return (
        fields.get("ObjectType") == "Image"
        and fields.get("NDims") == "3"
        and len(header.sizes) == 3
        and is_true(fields.get("BinaryData", "False"))
        # MetaIO also takes "key : value".
        and not any(":" in key for key in fields)
        and all(sum(key in fields for key in keys) < 2 for keys in (_ORIGIN_KEYS, _DIRECTION_KEYS, _BYTE_ORDER_KEYS))
    )


def _first_of(fields: dict[str, str], keys: tuple[str, ...], default: str) -> str:
    return next((fields[key] for key in keys if key in fields), default)


def _numbers(text: str, num_values: int) -> tuple[float, ...] | None:
    """Return exactly so many finite numbers, None for anything else."""
    try:
        values = tuple(float(word) for word in text.split())
    except ValueError:
        return None
    return values if len(values) == num_values and all(math.isfinite(value) for value in values) else None


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
