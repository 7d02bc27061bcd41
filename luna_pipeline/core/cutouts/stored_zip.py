"""The bytes around the uncompressed, aligned members of a zip file.

Sizes always have 64 bits: chunks may exceed 4 GB, and the length of a header is known before its content.

Files of format version 1 were written by Python's ``zipfile``: the same places, another order of the extra fields, and
a directory with 32-bit sizes. They are read; such a file above 2 GiB is not recognised and must be cut again.

Source:
    PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 64
_END_RECORD_BYTES = 22
_END_RECORDS_BYTES = 56 + 20 + _END_RECORD_BYTES
_LOCAL_HEADER_BYTES = 30
_ENTRY_BYTES = 46
_ENTRY_EXTRA_BYTES = 28
_ZIP64_EXTRA_BYTES = 20
# Extra field that Android's zipalign registered for alignment; other readers skip it.
_PADDING_TAG = 0xD935
_VERSION_WITH_ZIP64 = 45
# 1980-01-01 00:00: equal contents give equal bytes.
_DATE = (1 << 5) | 1
_IN_EXTRA = 0xFFFFFFFF
_UNIX_FILE = 0o100644 << 16
_ZIPFILE_MODE = 0o644 << 16


class Member(NamedTuple):
    """A member: its local header starts at byte ``start``, its content at ``offset``, a multiple of ALIGNMENT."""

    name: str
    start: int
    offset: int
    num_bytes: int
    crc: int = 0
    is_by_zipfile: bool = False

    @property
    def end(self) -> int:
        """Byte after its content."""
        return self.offset + self.num_bytes


def placed(name: str, start: int, num_bytes: int, *, is_by_zipfile: bool = False) -> Member:
    """Return a member whose local header begins at ``start``."""
    unpadded = start + _LOCAL_HEADER_BYTES + len(name) + _ZIP64_EXTRA_BYTES + 6
    offset = unpadded + -unpadded % ALIGNMENT
    return Member(name, start, offset, num_bytes, is_by_zipfile=is_by_zipfile)


def local_header(member: Member) -> bytes:
    """Return the bytes before a member's content; they end at ``member.offset``."""
    padding = _padding(member)
    num_extra = _ZIP64_EXTRA_BYTES + len(padding)
    # Version, flags, method, time, date; CRC and both sizes; lengths of name and extra fields.
    numbers = (_VERSION_WITH_ZIP64, 0, 0, 0, _DATE, member.crc, _IN_EXTRA, _IN_EXTRA, len(member.name), num_extra)
    fixed = struct.pack("<4s5H3I2H", b"PK\x03\x04", *numbers)
    zip64 = struct.pack("<2H2Q", 1, 16, member.num_bytes, member.num_bytes)
    return fixed + member.name.encode() + (padding + zip64 if member.is_by_zipfile else zip64 + padding)


def central_directory(members: Sequence[Member]) -> bytes:
    """Return the bytes after the last member: the directory and the end records."""
    directory = b"".join(map(_directory_entry, members))
    start, count, size = members[-1].end, len(members), len(directory)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size, min(start, _IN_EXTRA), 0)
    if members[0].is_by_zipfile:
        return directory + end
    versions = (_VERSION_WITH_ZIP64, _VERSION_WITH_ZIP64)
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, *versions, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)
    return directory + end64 + locator + end


def max_directory_bytes(names: Sequence[str]) -> int:
    """Return the largest number of bytes after the last member of a file with these members."""
    return _END_RECORDS_BYTES + sum(_ENTRY_BYTES + len(name) + 6 + ALIGNMENT for name in names)


def members_before(tail: bytes, num_file_bytes: int, names: Sequence[str]) -> list[Member] | None:
    """Return the members of a file whose last bytes are ``tail``.

    What follows the last member is rebuilt from names, sizes and CRCs, and compared byte for byte.

    Args:
        tail: At least ``max_directory_bytes(names)``, or the whole file.
        num_file_bytes: Length of the file.
        names: Names of the members, in their order.

    Returns:
        The members; None if a byte differs, or the length of the file.
    """
    for is_by_zipfile in (False, True):
        try:
            members = _parsed(tail, names, is_by_zipfile=is_by_zipfile)
            directory = central_directory(members)
        except struct.error:
            continue
        if tail.endswith(directory) and members[-1].end + len(directory) == num_file_bytes:
            return members
    return None


def _parsed(tail: bytes, names: Sequence[str], *, is_by_zipfile: bool) -> list[Member]:
    """Return members with the sizes and CRCs of a directory, which may be any bytes; struct.error where it is short."""
    at, start, members = _directory_start(tail, names, is_by_zipfile=is_by_zipfile), 0, []
    for name in names:
        crc, _, size = struct.unpack_from("<3I", tail, at + 16)
        if not is_by_zipfile:
            (size,) = struct.unpack_from("<Q", tail, at + _ENTRY_BYTES + len(name) + 4)
        member = placed(name, start, size, is_by_zipfile=is_by_zipfile)._replace(crc=crc)
        members.append(member)
        at += _ENTRY_BYTES + len(name) + (len(_padding(member)) if is_by_zipfile else _ENTRY_EXTRA_BYTES)
        start = member.end
    return members


def _directory_start(tail: bytes, names: Sequence[str], *, is_by_zipfile: bool) -> int:
    if is_by_zipfile:
        (size,) = struct.unpack_from("<I", tail, len(tail) - 10)
        start: int = len(tail) - _END_RECORD_BYTES - size
    else:
        start = len(tail) - _END_RECORDS_BYTES - sum(_ENTRY_BYTES + len(name) + _ENTRY_EXTRA_BYTES for name in names)
    if start < 0:
        msg = "the directory begins before the tail"
        raise struct.error(msg)
    return start


def _padding(member: Member) -> bytes:
    num_zeros = member.offset - member.start - _LOCAL_HEADER_BYTES - len(member.name) - _ZIP64_EXTRA_BYTES - 6
    return struct.pack("<3H", _PADDING_TAG, 2 + num_zeros, ALIGNMENT) + bytes(num_zeros)


def _directory_entry(member: Member) -> bytes:
    sizes, offset = (_IN_EXTRA, _IN_EXTRA), _IN_EXTRA
    extra = struct.pack("<2H3Q", 1, 24, member.num_bytes, member.num_bytes, member.start)
    if member.is_by_zipfile:
        sizes, offset, extra = (member.num_bytes, member.num_bytes), member.start, _padding(member)
    made_by_unix = (3 << 8) | _VERSION_WITH_ZIP64
    # As in the local header, then comment length, disk, internal and external attributes, offset.
    numbers = (made_by_unix, _VERSION_WITH_ZIP64, 0, 0, 0, _DATE, member.crc, *sizes)
    mode = _ZIPFILE_MODE if member.is_by_zipfile else _UNIX_FILE
    rest = (len(member.name), len(extra), 0, 0, 0, mode, offset)
    return struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *numbers, *rest) + member.name.encode() + extra
