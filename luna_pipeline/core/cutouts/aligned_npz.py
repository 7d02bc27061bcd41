"""An .npz whose arrays can be mapped into memory: stored, in a fixed order, each array on a 64-byte boundary.

``numpy.load`` reads it like any other. The place of each array follows from the sizes alone, so that a file
can be judged by its last few hundred bytes: whatever does not lie where it must was truncated or written by
somebody else.
"""

import io
import json
import mmap
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
_BLOCK_BYTES = 1 << 20
_LOCAL_HEADER_BYTES = 30
_ZIP64_EXTRA_BYTES = 20
_END_RECORD_BYTES = 22
_NPY_HEADER_BYTES = 128
_PADDING_TAG = 0xD935
"""Tag of the zip field that Android's zipalign registered for alignment; others skip it."""


class DamagedCutoutsError(ValueError):
    """A file that is there but is not a whole file of cutouts of its series."""


@dataclass(frozen=True)
class Member:
    """Where an array's ``.npy`` lies in the file: offset and number of bytes, and its CRC-32."""

    name: str
    offset: int
    num_bytes: int
    crc: int


def write_aligned_npz(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays one after the other; equal arrays give equal bytes, and no array is copied.

    Args:
        file: An empty file, open for writing and seeking.
        arrays: C-contiguous arrays by name, in the order in which they are to lie in the file.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            info.extra = _padding(file.tell(), info.filename)
            # Always with 64-bit sizes: chunks may exceed 4 GB, and the local header's length is known
            # beforehand.
            with archive.open(info, "w", force_zip64=True) as member:
                member.write(_npy_header(array.dtype, array.shape))
                content = array.reshape(-1).view(np.uint8)
                for start in range(0, content.size, _BLOCK_BYTES):
                    member.write(content[start : start + _BLOCK_BYTES].data)


def locate_members(file: BinaryIO, names: Sequence[str]) -> dict[str, Member]:
    """Find the arrays of a file by its central directory.

    Args:
        file: A file of ``write_aligned_npz``, open for reading.
        names: The arrays it must hold, in their order.

    Raises:
        DamagedCutoutsError: If the file is truncated, no such file, or its members do not lie where they
            must.
    """
    infos, directory_offset = _central_directory(file)
    found = [info.filename for info in infos]
    expected = [f"{name}.npy" for name in names]
    if found != expected:
        raise DamagedCutoutsError(_damaged(file, f"members {', '.join(expected)}", f"{', '.join(found)}"))
    members, offset = {}, 0
    for name, info in zip(names, infos, strict=True):
        start = offset + _LOCAL_HEADER_BYTES + len(info.filename) + len(_padding(offset, info.filename))
        start += _ZIP64_EXTRA_BYTES
        is_stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if info.header_offset != offset or not is_stored:
            got = f"{name} at byte {info.header_offset} in a file of another writer or with missing bytes"
            raise DamagedCutoutsError(_damaged(file, f"{name} stored at byte {offset}", got))
        members[name] = Member(name, start, info.file_size, info.CRC)
        offset = start + info.file_size
    if directory_offset != offset:
        raise DamagedCutoutsError(_damaged(file, f"{offset} bytes of members", f"{directory_offset}"))
    return members


def read_json(file: BinaryIO, member: Member) -> dict[str, Any]:
    """Read a uint8 array that holds JSON, checked by its CRC.

    Raises:
        DamagedCutoutsError: If the bytes are not those that were written, or no JSON object.
    """
    file.seek(member.offset)
    content = file.read(member.num_bytes)
    if zlib.crc32(content) != member.crc:
        raise DamagedCutoutsError(_damaged(file, f"member {member.name} as written", "another CRC"))
    try:
        value = json.loads(content[_NPY_HEADER_BYTES:])
    except ValueError as error:
        raise DamagedCutoutsError(_damaged(file, f"JSON in {member.name}", str(error))) from error
    if not isinstance(value, dict):
        raise DamagedCutoutsError(_damaged(file, f"a JSON object in {member.name}", type(value).__name__))
    return value


def map_members(
    file: BinaryIO, members: Mapping[str, Member], rows: Mapping[str, np.dtype[Any]]
) -> dict[str, NDArray[Any]]:
    """Map the file into memory and return its arrays, read-only, without a copy.

    Args:
        file: The file, open for reading; it may be closed afterwards.
        members: Where its arrays lie.
        rows: Dtype and shape of an array's row, by name, such as ``np.dtype((np.int16, (32, 48, 48)))``.

    Raises:
        DamagedCutoutsError: If an array is another one.
    """
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {name: _viewed(file, mapped, members[name], row) for name, row in rows.items()}


def first_overwritten(file: BinaryIO, members: Mapping[str, Member]) -> str | None:
    """Read the whole file and return the first member whose bytes differ from its CRC-32, if any."""
    for member in members.values():
        file.seek(member.offset)
        crc, left = 0, member.num_bytes
        while left and (block := file.read(min(left, _BLOCK_BYTES))):
            crc = zlib.crc32(block, crc)
            left -= len(block)
        if left or crc != member.crc:
            return member.name
    return None


def _padding(offset: int, filename: str) -> bytes:
    """Return the zip field after which the data of a member, whose header is at ``offset``, is aligned."""
    unpadded = offset + _LOCAL_HEADER_BYTES + len(filename) + _ZIP64_EXTRA_BYTES + 6
    num_zeros = -unpadded % ALIGNMENT
    return struct.pack("<HHH", _PADDING_TAG, 2 + num_zeros, ALIGNMENT) + bytes(num_zeros)


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return an array's header in version 1.0 of the npy format, written out so that it never varies."""
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
    room = _NPY_HEADER_BYTES - 10
    return struct.pack("<6sBBH", b"\x93NUMPY", 1, 0, room) + text.ljust(room - 1).encode() + b"\n"


def _central_directory(file: BinaryIO) -> tuple[list[zipfile.ZipInfo], int]:
    try:
        file.seek(-_END_RECORD_BYTES, io.SEEK_END)
        # zipfile itself would accept anything behind the archive as a comment.
        if file.read(4) != b"PK\x05\x06":
            msg = "it does not end where a zip file ends"
            raise zipfile.BadZipFile(msg)
        with zipfile.ZipFile(file) as archive:
            return archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OSError) as error:
        file.seek(0)
        begins = file.read(4)
        num_bytes = file.seek(0, io.SEEK_END)
        kind = "truncated" if begins == b"PK\x03\x04" else "foreign"
        got = f"a {kind} file of {num_bytes} bytes: {error}"
        raise DamagedCutoutsError(_damaged(file, "the directory at the end of the file", got)) from error


def _viewed(file: BinaryIO, mapped: mmap.mmap, member: Member, row: np.dtype[Any]) -> NDArray[Any]:
    """Return the array whose header lies at the member's offset, if it is the one expected."""
    count = (member.num_bytes - _NPY_HEADER_BYTES) // row.itemsize
    shape = (count, *row.shape)
    values = member.offset + _NPY_HEADER_BYTES
    is_whole = _NPY_HEADER_BYTES + count * row.itemsize == member.num_bytes
    if not is_whole or mapped[member.offset : values] != _npy_header(row.base, shape):
        got = f"{member.num_bytes} bytes with another header"
        raise DamagedCutoutsError(_damaged(file, f"{member.name} as {row.base} (N, {row.shape})", got))
    return np.ndarray(shape, row.base, buffer=mapped, offset=values)


def _damaged(file: BinaryIO, rule: str, got: str) -> str:
    return f"A file of cutouts must have {rule}, got {got} ({file.name}). Cut the series again."
