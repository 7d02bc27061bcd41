"""MetaImage files (``.mhd``, ``.mha``).

ITK reads a voxel file that is too long, and a compressed one whose header claims other sizes, without a warning:
both give a shifted or half-empty CT. Here the sizes are compared before a voxel is read.

Source:
    https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError, naming_series
from luna_pipeline.core.ct.file_maps import mapped_file
from luna_pipeline.core.ct.formats.gzip_files import UnpackingError
from luna_pipeline.core.ct.formats.itk import ItkReader
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.hounsfield import check_voxel_kind, to_hounsfield

# Element type -> numpy's type, byte order aside.
_DTYPES = {"CHAR": "i1", "SHORT": "i2", "INT": "i4", "LONG": "i4", "LONG_LONG": "i8"}
ELEMENT_TYPES = {f"MET_{name}": dtype for name, dtype in _DTYPES.items()}
ELEMENT_TYPES |= {f"MET_U{name}": f"u{dtype[1]}" for name, dtype in _DTYPES.items()}
ELEMENT_TYPES |= {"MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
# Synonyms; a header with several of a group is left to ITK, since MetaIO has rules for them.
_ORIGIN_KEYS = ("Offset", "Position", "Origin")
_DIRECTION_KEYS = ("TransformMatrix", "Orientation", "Rotation")
_BYTE_ORDER_KEYS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
# A header is a few hundred bytes; what is longer is no header.
_MAX_HEADER_BYTES = 65536
# Small enough that unpacked bytes are still in the processor's cache when they are copied to their place.
_PACKED_BYTES = 1 << 18


@dataclass(frozen=True)
class MetaImageHeader:
    """A parsed MetaImage header.

    Attributes:
        fields: All keys with their text.
        data_path: File with the voxels; the header's own file for ``ElementDataFile = LOCAL``.
        offset: Bytes before the first voxel, -1 where the voxels are the file's end.
        sizes: Voxels along col, row, index.
        dtype: Numpy's name of a stored voxel's type, with its byte order.
        num_channels: Numbers a voxel.
        is_compressed: Whether the voxels are zlib-compressed.
        num_compressed_bytes: Their compressed length, None where the header does not give it.
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

    @cached_property
    def grid(self) -> VoxelGrid | None:
        """The CT's grid; None where the header is unusual and has to be read by ITK.

        Raises:
            ValueError: If a spacing is not positive or the direction is not orthonormal.
        """
        spacing_key = "ElementSpacing" if "ElementSpacing" in self.fields else "ElementSize"
        spacing_mm = _numbers(self.fields.get(spacing_key, "1 1 1"), 3)
        origin_xyz = _numbers(self._first_of(_ORIGIN_KEYS, "0 0 0"), 3)
        axes = _numbers(self._first_of(_DIRECTION_KEYS, "1 0 0 0 1 0 0 0 1"), 9)
        if not self._is_usual() or spacing_mm is None or origin_xyz is None or axes is None:
            return None
        num_cols, num_rows, num_slices = self.sizes
        (x, y, z), (x_mm, y_mm, z_mm) = origin_xyz, spacing_mm
        # MetaImage lists the axes one after the other; ITK's matrix has them as columns.
        direction = tuple(axes[axis + 3 * column] for axis in range(3) for column in range(3))
        return VoxelGrid((num_slices, num_rows, num_cols), (x_mm, y_mm, z_mm), (x, y, z), direction)

    def _is_usual(self) -> bool:
        return (
            self.fields.get("ObjectType") == "Image"
            and self.fields.get("NDims") == "3"
            and len(self.sizes) == 3
            and _is_true(self.fields.get("BinaryData", "False"))
            # MetaIO also takes "key : value".
            and not any(":" in key for key in self.fields)
            and all(len(self.fields.keys() & keys) < 2 for keys in (_ORIGIN_KEYS, _DIRECTION_KEYS, _BYTE_ORDER_KEYS))
        )

    def _first_of(self, keys: tuple[str, ...], default: str) -> str:
        return next((self.fields[key] for key in keys if key in self.fields), default)


class MetaImageReader(ItkReader):
    """Reads MetaImages: usual headers here, unusual ones by ITK once their length is checked.

    Uncompressed little-endian int16 voxels are a read-only map of their file: nothing is copied, and the file must
    not be shortened while the array is in use.
    """

    @cached_property
    def header(self) -> MetaImageHeader:
        """The parsed header."""
        return read_metaimage_header(self.path)

    def files(self) -> tuple[Path, ...]:
        """Return the paths of header and voxels, sorted."""
        return tuple(sorted({self.path, self.header.data_path}))

    def grid(self) -> VoxelGrid:
        """Read the grid; the voxel file's length is checked."""
        header = self.header
        self.check_size()
        with naming_series(self.series_instance_uid):
            grid = header.grid
        if grid is None:
            return super().grid()
        kind, num_bytes = header.fields["ElementType"], np.dtype(header.dtype).itemsize
        check_voxel_kind(kind, header.num_channels, num_bytes, series_instance_uid=self.series_instance_uid)
        return grid

    def voxels(self) -> NDArray[np.int16]:
        """Map or read the HU."""
        if self.header.grid is None:
            # ITK does not notice compressed voxels that are too few.
            if self.header.is_compressed:
                self._unpacked_voxels()
            return super().voxels()
        values = self._unpacked_voxels() if self.header.is_compressed else _stored_voxels(self.header)
        hounsfield = to_hounsfield(values, series_instance_uid=self.series_instance_uid)
        return hounsfield.reshape(self.header.sizes[::-1])

    @property
    def _where(self) -> str:
        return f"{self.header.data_path.name} of series {self.series_instance_uid}"

    def check_size(self) -> None:
        """Compare the voxel file's length with the header, without reading it."""
        header = self.header
        expected = header.num_compressed_bytes if header.is_compressed else header.num_voxel_bytes
        if not header.data_path.is_file():
            msg = f"The voxel file must hold {expected} bytes, got no such file ({self._where})."
            raise UnreadableCtError(f"{msg} Copy it next to its header.")
        if expected is None:
            return
        got = header.data_path.stat().st_size - max(header.offset, 0)
        is_right = got >= expected if header.offset == -1 else got == expected
        if not is_right:
            kind = "compressed voxels" if header.is_compressed else f"voxels ({header.description})"
            msg = f"The {kind} must fill {expected} bytes, got {got} ({self._where}). Copy header and voxels again."
            raise UnreadableCtError(msg)

    def _unpacked_voxels(self) -> NDArray[Any]:
        """Unpack compressed voxels into one flat array; refuse any other number of bytes than the header's."""
        header = self.header
        buffer = np.empty(header.num_voxel_bytes, dtype=np.uint8)
        try:
            got = _unpack(header, buffer)
        except UnpackingError as error:
            msg = f"Compressed voxels must unpack, got {error} ({self._where}). Copy header and voxels again."
            raise UnreadableCtError(msg) from error
        if got != header.num_voxel_bytes:
            msg = f"The voxels ({header.description}) must fill {header.num_voxel_bytes} bytes unpacked, got {got}"
            raise UnreadableCtError(f"{msg} ({self._where}). Copy header and voxels again.")
        return buffer.view(header.dtype)


def read_metaimage_header(path: Path) -> MetaImageHeader:
    """Parse a MetaImage header.

    Raises:
        UnreadableCtError: If a key is missing or has an invalid value.
    """
    fields, num_header_bytes = _read_fields(path)
    is_big_endian = _is_true(fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")))
    try:
        data_file = fields["ElementDataFile"]
        is_local = data_file.upper() == "LOCAL"
        header = MetaImageHeader(
            fields=fields,
            data_path=path if is_local else path.parent / data_file,
            offset=num_header_bytes if is_local else int(fields.get("HeaderSize", "0")),
            sizes=tuple(int(text) for text in fields["DimSize"].split()),
            dtype=(">" if is_big_endian else "<") + ELEMENT_TYPES[fields["ElementType"]],
            num_channels=int(fields.get("ElementNumberOfChannels", "1")),
            is_compressed=_is_true(fields.get("CompressedData", "False")),
            num_compressed_bytes=int(fields["CompressedDataSize"]) if "CompressedDataSize" in fields else None,
        )
    except (KeyError, ValueError) as error:
        msg = f"A MetaImage header must have valid sizes, type and data file, got {error} ({path.name}). Copy it again."
        raise UnreadableCtError(msg) from error
    if data_file == "LIST" or "%" in data_file:
        msg = f"ElementDataFile must name one file, got {data_file!r} ({path.name})."
        raise UnreadableCtError(f"{msg} Write the CT with a single .raw file.")
    return header


def _is_true(text: str) -> bool:
    """Whether MetaIO reads a word as true: by its first letter."""
    return text[:1] in {"T", "t", "1"}


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


def _numbers(text: str, num_values: int) -> tuple[float, ...] | None:
    """Return exactly this many finite numbers, None for anything else."""
    try:
        values = tuple(float(word) for word in text.split())
    except ValueError:
        return None
    return values if len(values) == num_values and all(math.isfinite(value) for value in values) else None


def _unpack(header: MetaImageHeader, buffer: NDArray[np.uint8]) -> int:
    """Fill ``buffer`` and return the bytes found; what does not fit is counted and dropped."""
    # 32 more than the largest window: a gzip or a zlib head, as ITK's own inflate takes both.
    unpacker = isal_zlib.decompressobj(wbits=32 + isal_zlib.MAX_WBITS)
    got = 0
    with header.data_path.open("rb") as file:
        file.seek(max(header.offset, 0))
        while not unpacker.eof and (packed := file.read(_PACKED_BYTES)):
            part = unpacker.decompress(packed)
            if got + len(part) <= len(buffer):
                buffer[got : got + len(part)] = np.frombuffer(part, dtype=np.uint8)
            got += len(part)
    return got


def _stored_voxels(header: MetaImageHeader) -> NDArray[Any]:
    """Return uncompressed voxels, flat: mapped where their type and place allow it, else read into memory."""
    dtype = np.dtype(header.dtype)
    num_bytes = header.num_voxel_bytes
    start = header.data_path.stat().st_size - num_bytes if header.offset == -1 else header.offset
    # Behind a header of odd length the numbers are not aligned, which not all code accepts.
    if dtype != np.dtype("<i2") or start % dtype.itemsize:
        return np.fromfile(header.data_path, dtype=dtype, count=num_bytes // dtype.itemsize, offset=start)
    # Nothing is read yet: cutting one chunk of a CT does not read all of it.
    content = mapped_file(header.data_path)
    return np.frombuffer(content, dtype=dtype, count=num_bytes // dtype.itemsize, offset=start)
