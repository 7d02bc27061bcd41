"""An .npz whose arrays can be memory-mapped: uncompressed, in a fixed order, each on a 64-byte boundary.

``numpy.load`` reads it too. The offsets follow from the sizes, so that the last few hundred bytes show whether a file
was truncated or written by another program. Every byte outside the arrays follows from their sizes and CRCs: a reader
rebuilds it and compares.

Measured on a series of 850 cutouts (125 MB, one core, page cache): writing takes half the time of ``np.savez``. Cutting
a series takes 39 % less time by isal's CRC-32, 39 % by claiming the disk space first, 34 % by writing in a thread.
"""

import io
import json
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from luna_pipeline.core.ct.file_maps import MapLimitError, map_open_file
from luna_pipeline.core.cutouts.stored_zip import (
    Member,
    central_directory,
    local_header,
    max_directory_bytes,
    members_before,
    placed,
)
from luna_pipeline.core.storage.limited_disks import unsupported_ignored
from luna_pipeline.core.storage.regular_files import open_regular

_BLOCK_BYTES = 1 << 20
# What is compared with its checksum: as fast as larger blocks, and it stays in the processor's cache.
_CHECKED_BLOCK_BYTES = 1 << 18
_NPY_HEADER_BYTES = 128
MAX_JSON_BYTES = 1 << 20
"""Largest header that is read; one of this project has about 1,000 bytes."""


class DamagedCutoutsError(ValueError):
    """A file that exists but is not a complete cutout file of its series."""


class Blocks(Protocol):
    """An array that is produced block by block."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the blocks; each stays valid until two more have been requested."""


def write_aligned_npz(file: IO[bytes], arrays: Mapping[str, NDArray[Any] | Blocks]) -> int:
    """Write arrays without copying them; equal arrays give equal bytes. Return the file's number of bytes.

    While one block is written, the next one is computed.

    Args:
        file: An empty file, open for writing and seeking.
        arrays: C-contiguous arrays or ``Blocks`` by name, in the order of the file.

    Raises:
        OSError: If the disk is full; its space is claimed before the first block is computed.
    """
    writer = _Writer(file, {name: (np.dtype(array.dtype), array.shape) for name, array in arrays.items()})
    with ThreadPoolExecutor(1) as pool:
        pending = None
        for name, array in arrays.items():
            for block in _blocks_of(array) if isinstance(array, np.ndarray) else array.blocks():
                content = writer.counted(name, block)
                if pending is not None:
                    pending.result()
                pending = pool.submit(writer.append, name, content)
        if pending is not None:
            pending.result()
    return writer.finish()


def _blocks_of(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    content = array.reshape(-1).view(np.uint8)
    for start in range(0, content.size, _BLOCK_BYTES):
        yield content[start : start + _BLOCK_BYTES]


class _Writer:
    """Writes a file whose layout is known before its contents."""

    def __init__(self, file: IO[bytes], arrays: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
        self._file = file
        self._headers = {name: _npy_header(dtype, shape) for name, (dtype, shape) in arrays.items()}
        self._left = {name: math.prod(shape) * dtype.itemsize for name, (dtype, shape) in arrays.items()}
        self._members = _layout({name: _NPY_HEADER_BYTES + num_bytes for name, num_bytes in self._left.items()})
        self._crc = {name: crc32(header) for name, header in self._headers.items()}
        if hasattr(os, "posix_fallocate"):
            # A full disk shows now, and pages that were allocated at once are written several times as fast.
            with unsupported_ignored():
                os.posix_fallocate(file.fileno(), 0, list(self._members.values())[-1].end)

    def counted(self, name: str, block: NDArray[Any]) -> NDArray[np.uint8]:
        """Update the array's CRC while the block is in the processor's cache; return the block's bytes."""
        content: NDArray[np.uint8] = block.reshape(-1).view(np.uint8)
        self._crc[name] = crc32(content, self._crc[name])
        return content

    def append(self, name: str, content: NDArray[np.uint8]) -> None:
        self._file.seek(self._members[name].end - self._left[name])
        self._file.write(content.data)
        self._left[name] -= content.size

    def finish(self) -> int:
        """Write headers and directory; return the file's number of bytes."""
        if wrong := [name for name, left in self._left.items() if left]:
            msg = f"Every array must be written as announced, got another length of {', '.join(wrong)}."
            raise ValueError(f"{msg} State the shape that is written.")
        members = [member._replace(crc=self._crc[name]) for name, member in self._members.items()]
        for member, npy_header in zip(members, self._headers.values(), strict=True):
            self._file.seek(member.start)
            self._file.write(local_header(member) + npy_header)
        self._file.seek(members[-1].end)
        self._file.write(central_directory(members))
        return self._file.tell()


def locate_members(file: BinaryIO, names: Sequence[str]) -> dict[str, Member]:
    """Return the members of a file of ``write_aligned_npz`` from its central directory.

    Args:
        file: Open for reading.
        names: The arrays it must contain, in their order.

    Raises:
        DamagedCutoutsError: If the file is truncated or from another writer.
    """
    file_names = [f"{name}.npy" for name in names]
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(max(0, num_bytes - max_directory_bytes(file_names)))
    tail = file.read()
    members = members_before(tail, num_bytes, file_names)
    if members is None:
        file.seek(0)
        got = _kind_of_file(file.read(4), tail)
        rule = f"members {', '.join(file_names)} and the directory of this writer after them"
        raise DamagedCutoutsError(_damaged(file, rule, f"a {got} of {num_bytes} bytes"))
    return dict(zip(names, members, strict=True))


def read_json(file: BinaryIO, member: Member) -> dict[str, Any]:
    """Return the JSON object in a uint8 array.

    Raises:
        DamagedCutoutsError: If it is longer than MAX_JSON_BYTES, the CRC differs or it is no JSON object.
    """
    if member.num_bytes > MAX_JSON_BYTES:
        rule = f"at most {MAX_JSON_BYTES} bytes in {member.name}"
        raise DamagedCutoutsError(_damaged(file, rule, str(member.num_bytes)))
    content = read_array(file, member, np.dtype(np.uint8)).tobytes()
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DamagedCutoutsError(_damaged(file, f"JSON in {member.name}", str(error))) from error
    if not isinstance(value, dict):
        raise DamagedCutoutsError(_damaged(file, f"a JSON object in {member.name}", type(value).__name__))
    return value


def map_members(file: BinaryIO, members: Mapping[str, Member], rows: Mapping[str, np.dtype[Any]]) -> dict[str, Any]:
    """Return the arrays of a file, memory-mapped and read-only.

    Where the system allows no further map, rows of a page or more are read when they are used (`RowsOnDemand`).

    Args:
        file: Open for reading; may be closed afterwards.
        members: Members by array name.
        rows: Dtype and shape of an array's row by name, such as ``np.dtype((np.int16, (32, 48, 48)))``.

    Raises:
        DamagedCutoutsError: If an array has another dtype or shape.
    """
    try:
        mapped = map_open_file(file.fileno(), file.name)
    except MapLimitError:
        return {name: _unmapped(file, members[name], row) for name, row in rows.items()}
    return {name: _viewed(file, mapped, members[name].offset, members[name], row) for name, row in rows.items()}


def read_array(file: BinaryIO, member: Member, row: np.dtype[Any]) -> NDArray[Any]:
    """Return one array; the rest of the file, which may be remote, is not read.

    Raises:
        DamagedCutoutsError: If the CRC, dtype or shape differs.
    """
    return _viewed(file, _checked_content(file, member), 0, member, row)


def first_damage(file: BinaryIO, members: Mapping[str, Member]) -> str | None:
    """Read all members and return what differs from what was written, None if nothing does.

    With ``locate_members``, which compares the rest, every byte of the file is compared.
    """
    block = memoryview(bytearray(_CHECKED_BLOCK_BYTES))
    for name, member in members.items():
        file.seek(member.start)
        if file.read(member.offset - member.start) != local_header(member):
            return f"another local header of {name}"
        crc, left = 0, member.num_bytes
        while left and (num_read := file.readinto(block[: min(left, len(block))])):  # type: ignore[attr-defined]
            crc = crc32(block[:num_read], crc)
            left -= num_read
        if left or crc != member.crc:
            return f"another CRC of {name}"
    return None


def _layout(num_bytes: Mapping[str, int]) -> dict[str, Member]:
    """Return the member of each array; the offsets follow from the sizes."""
    members: dict[str, Member] = {}
    start = 0
    for name, size in num_bytes.items():
        members[name] = placed(f"{name}.npy", start, size)
        start = members[name].end
    return members


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return an array's header in npy format 1.0, independent of NumPy's version."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
    num_text = _NPY_HEADER_BYTES - 10
    return struct.pack("<6sBBH", b"\x93NUMPY", 1, 0, num_text) + text.ljust(num_text - 1).encode() + b"\n"


def _kind_of_file(begin: bytes, tail: bytes) -> str:
    if begin != b"PK\x03\x04":
        return "foreign file"
    is_ended = tail[-22:].startswith(b"PK\x05\x06")
    return "file of another writer or with changed bytes" if is_ended else "truncated file"


def _refuse_constant(text: str) -> None:
    msg = f"{text} is no JSON value"
    raise ValueError(msg)


def _checked_content(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    content = file.read(member.num_bytes)
    if crc32(content) != member.crc:
        raise DamagedCutoutsError(_damaged(file, f"member {member.name} as written", "another CRC"))
    return content


def _viewed(
    file: BinaryIO, content: memoryview | bytes, offset: int, member: Member, row: np.dtype[Any]
) -> NDArray[Any]:
    count = (member.num_bytes - _NPY_HEADER_BYTES) // row.itemsize
    shape = (count, *row.shape)
    values = offset + _NPY_HEADER_BYTES
    is_whole = count >= 0 and _NPY_HEADER_BYTES + count * row.itemsize == member.num_bytes
    if not is_whole or content[offset:values] != _npy_header(row.base, shape):
        got = f"{member.num_bytes} bytes with another header"
        raise DamagedCutoutsError(_damaged(file, f"{member.name} as {row.base} (N, {row.shape})", got))
    return np.ndarray(shape, row.base, buffer=content, offset=values)


def _unmapped(file: BinaryIO, member: Member, row: np.dtype[Any]) -> "NDArray[Any] | RowsOnDemand":
    if row.itemsize < mmap.PAGESIZE:
        return read_array(file, member, row)
    file.seek(member.offset)
    count = max(0, member.num_bytes - _NPY_HEADER_BYTES) // row.itemsize
    header = file.read(_NPY_HEADER_BYTES)
    if header != _npy_header(row.base, (count, *row.shape)):
        raise DamagedCutoutsError(_damaged(file, f"{member.name} as {row.base} (N, {row.shape})", "another header"))
    return RowsOnDemand(Path(file.name), os.fstat(file.fileno()), member.offset + _NPY_HEADER_BYTES, row, count)


class RowsOnDemand:
    """An array in a file, of which each row is read when it is used; no file stays open.

    Attributes:
        dtype: Dtype of the values.
        shape: (N, *shape of a row).
    """

    def __init__(self, path: Path, status: os.stat_result, offset: int, row: np.dtype[Any], count: int) -> None:
        """Keep where the values begin in which file."""
        self.dtype = row.base
        self.shape = (count, *row.shape)
        self._path, self._key, self._offset, self._num_bytes = path, _identity(status), offset, row.itemsize

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, row: int) -> NDArray[Any]:
        """Return a row, read-only.

        Raises:
            IndexError: If there is no such row.
            DamagedCutoutsError: If the file was replaced since it was opened.
        """
        place = range(len(self))[row]
        with open_regular(self._path) as file:
            content = os.pread(file.fileno(), self._num_bytes, self._offset + place * self._num_bytes)
            if _identity(os.fstat(file.fileno())) != self._key or len(content) < self._num_bytes:
                raise DamagedCutoutsError(_damaged(file, "the content with which it was opened", "a replaced one"))
        return np.frombuffer(content, self.dtype).reshape(self.shape[1:])


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _damaged(file: BinaryIO, rule: str, got: str) -> str:
    return f"A file of cutouts must have {rule}, got {got} ({file.name}). Cut the series again."
