"""Voxels of MetaImage, NRRD and NIfTI files: mapped, read or unpacked by the same code once a header is parsed."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.file_maps import mapped_file
from luna_pipeline.core.ct.formats.packed_files import ByteSource, byte_source
from luna_pipeline.core.ct.formats.reader import CtReader
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.hounsfield import check_voxel_kind, to_hounsfield
from luna_pipeline.core.ct.limits import check_announced_bytes
from luna_pipeline.core.storage.regular_files import is_regular, kind_of, open_regular, shown_name

_PART_VOXELS = 1 << 20
_COPY_AGAIN = "Copy header and voxels again."


@dataclass(frozen=True)
class StoredVoxels:
    """Everything that a parsed header says.

    Attributes:
        grid: Position of the voxels in the patient.
        data_path: File with the voxels; the header's own file where they follow the header.
        offset: Bytes of this file before the first voxel, or before the packed data.
        dtype: Numpy's name of the type of a stored number, with its byte order.
        kind: The format's own name of the type.
        num_channels: Numbers a voxel.
        is_at_end: Whether the voxels are the file's end, wherever they begin from ``offset`` on.
        is_packed: Whether everything from ``offset`` on is packed by DEFLATE, as gzip or zlib.
        is_zlib_allowed: Whether zlib's own frame is accepted besides gzip's.
        num_packed_bytes: Length of the packed data by the header, None where it does not give it.
        num_unpacked_head_bytes: Unpacked bytes before the first voxel, of a header that is packed too.
        slope: HU are stored number * slope + intercept.
        intercept: In HU.
    """

    grid: VoxelGrid
    data_path: Path
    offset: int
    dtype: str
    kind: str
    num_channels: int = 1
    is_at_end: bool = False
    is_packed: bool = False
    is_zlib_allowed: bool = False
    num_packed_bytes: int | None = None
    num_unpacked_head_bytes: int = 0
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def num_voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.grid.size_irc)

    @property
    def num_bytes(self) -> int:
        """Bytes of all voxels, unpacked."""
        return self.num_voxels * np.dtype(self.dtype).itemsize

    @property
    def is_scaled(self) -> bool:
        """Whether stored numbers are not HU yet."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def is_mappable(self) -> bool:
        """Whether the file holds the HU as this machine's int16."""
        return not self.is_packed and not self.is_scaled and np.dtype(self.dtype) == np.dtype(np.int16)

    @property
    def description(self) -> str:
        """Sizes along col, row, index and type, for messages."""
        return f"{' x '.join(map(str, self.grid.size_irc[::-1]))} {self.kind}"


class StoredReader(CtReader):
    """Reads a format whose header is parsed here; voxels that can be mapped are not copied.

    A mapped file must not be shortened while the array is in use.
    """

    @abstractmethod
    def parse(self) -> StoredVoxels:
        """Parse the header.

        Raises:
            UnreadableCtError: If a field is missing, or not as the format's description has it.
        """

    @cached_property
    def header(self) -> StoredVoxels:
        """The parsed header."""
        return self.parse()

    def files(self) -> tuple[Path, ...]:
        """Return the paths of header and voxels, sorted."""
        return tuple(sorted({self.path, self.header.data_path}))

    def grid(self) -> VoxelGrid:
        """Return the grid once the voxels' type and length are checked; nothing is unpacked."""
        header = self.header
        num_bytes = np.dtype(header.dtype).itemsize
        check_voxel_kind(header.kind, header.num_channels, num_bytes, series_instance_uid=self.series_instance_uid)
        self._check_length()
        return header.grid

    def voxels(self) -> NDArray[np.int16]:
        """Map, read or unpack the HU."""
        header = self.header
        start = header.data_path.stat().st_size - header.num_bytes if header.is_at_end else header.offset
        if not header.is_mappable or start % np.dtype(np.int16).itemsize:
            # Behind a header of odd length mapped numbers would not be aligned, which not all code accepts.
            return self._read(start).reshape(header.grid.size_irc)
        # Nothing is read yet: cutting one chunk of a CT does not read all of it.
        content = mapped_file(header.data_path)
        mapped = np.frombuffer(content, dtype=np.int16, count=header.num_voxels, offset=start)
        return mapped.reshape(header.grid.size_irc)

    @property
    def _where(self) -> str:
        return f"{shown_name(self.header.data_path)} of series {self.series_instance_uid}"

    def _refusal(self, rule: str, value: object) -> UnreadableCtError:
        return UnreadableCtError(f"{rule}, got {value} ({self._where}). {_COPY_AGAIN}")

    def _check_length(self) -> None:
        """Compare the data file's length with the header, without reading it."""
        header = self.header
        if not is_regular(header.data_path):
            rule = f"The voxel file must hold {header.num_bytes} bytes, got {kind_of(header.data_path)} ({self._where})"
            raise UnreadableCtError(f"{rule}. Copy it next to its header, or correct the name in the header.")
        got = header.data_path.stat().st_size - header.offset
        if header.is_packed:
            if header.num_packed_bytes not in {None, got}:
                rule = f"The compressed voxels must fill {header.num_packed_bytes} bytes"
                raise self._refusal(rule, got)
            check_announced_bytes(header.num_unpacked_head_bytes + header.num_bytes, max(got, 0), where=self._where)
        elif got < header.num_bytes or (got > header.num_bytes and not header.is_at_end):
            raise self._refusal(f"The voxels ({header.description}) must fill {header.num_bytes} bytes", got)
        # Mapped voxels take no memory.
        elif not header.is_mappable:
            check_announced_bytes(header.num_bytes, where=self._where)

    def _read(self, start: int) -> NDArray[np.int16]:
        """Read or unpack all voxels, flat; refuse packed ones of another number than the header's."""
        header = self.header
        with open_regular(header.data_path) as file:
            file.seek(start)
            try:
                source = byte_source(file, is_packed=header.is_packed, is_zlib_allowed=header.is_zlib_allowed)
                source.readinto(memoryview(bytearray(header.num_unpacked_head_bytes)))
                hounsfield = self._fill(source)
                # The end of packed data is where their checksum is compared.
                if header.is_packed and source.readinto(memoryview(bytearray(1))):
                    raise self._refusal(self._unpacked_rule, "more")
            except UnreadableCtError:
                raise
            except ValueError as error:
                raise self._refusal("Compressed voxels must unpack", error) from error
        return hounsfield

    @property
    def _unpacked_rule(self) -> str:
        return f"The voxels ({self.header.description}) must fill {self.header.num_bytes} bytes unpacked"

    def _fill(self, source: ByteSource) -> NDArray[np.int16]:
        """Read part by part: besides the HU only one part of other numbers is in memory."""
        header = self.header
        hounsfield = np.empty(header.num_voxels, dtype=np.int16)
        is_hounsfield = np.dtype(header.dtype) == hounsfield.dtype and not header.is_scaled
        num_part = header.num_voxels if is_hounsfield else _PART_VOXELS
        stored = hounsfield if is_hounsfield else np.empty(min(header.num_voxels, num_part), dtype=header.dtype)
        for start in range(0, header.num_voxels, num_part):
            part = hounsfield[start : start + num_part]
            values = stored[: len(part)]
            got = source.readinto(values.view(np.uint8).data)
            if got < values.nbytes:
                raise self._refusal(self._unpacked_rule, start * values.itemsize + got)
            if not is_hounsfield:
                part[:] = to_hounsfield(self._scaled(values), series_instance_uid=self.series_instance_uid)
        return hounsfield

    def _scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        if not self.header.is_scaled:
            return values
        # Rounded to 32 bits as ITK does, so that halves are rounded alike.
        dtype = np.float64 if values.dtype.itemsize == 8 and values.dtype.kind == "f" else np.float32
        return (values.astype(dtype).astype(np.float64) * self.header.slope + self.header.intercept).astype(dtype)
