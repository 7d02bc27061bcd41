"""The bytes around the uncompressed, aligned members of a zip file.

Sizes always have 64 bits: chunks may exceed 4 GB, and the length of a header is known before its content.

Source:
    PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 64
END_RECORD_BYTES = 22
_LOCAL_HEADER_BYTES = 30
_ZIP64_EXTRA_BYTES = 20
# Extra field that Android's zipalign registered for alignment; other readers skip it.
_PADDING_TAG = 0xD935
_VERSION_WITH_ZIP64 = 45
# 1980-01-01 00:00: equal contents give equal bytes.
_DATE = (1 << 5) | 1
_IN_EXTRA = 0xFFFFFFFF
_UNIX_FILE = 0o100644 << 16


class Member(NamedTuple):
    """A member: its local header starts at byte ``start``, its content at ``offset``, a multiple of ALIGNMENT."""

    name: str
    start: int
    offset: int
    num_bytes: int
    crc: int = 0

    @property
    def end(self) -> int:
        """Byte after its content."""
        return self.offset + self.num_bytes


def placed(name: str, start: int, num_bytes: int) -> Member:
    """Return a member whose local header begins at ``start``."""
    unpadded = start + _LOCAL_HEADER_BYTES + len(name) + _ZIP64_EXTRA_BYTES + 6
    return Member(name, start, unpadded + -unpadded % ALIGNMENT, num_bytes)


def local_header(member: Member) -> bytes:
    """Return the bytes before a member's content; they end at ``member.offset``."""
    num_extra = member.offset - member.start - _LOCAL_HEADER_BYTES - len(member.name)
    num_zeros = num_extra - _ZIP64_EXTRA_BYTES - 6
    # Version, flags, method, time, date; CRC and both sizes; lengths of name and extra fields.
    numbers = (_VERSION_WITH_ZIP64, 0, 0, 0, _DATE, member.crc, _IN_EXTRA, _IN_EXTRA, len(member.name), num_extra)
    fixed = struct.pack("<4s5H3I2H", b"PK\x03\x04", *numbers)
    zip64 = struct.pack("<2H2Q", 1, 16, member.num_bytes, member.num_bytes)
    padding = struct.pack("<3H", _PADDING_TAG, 2 + num_zeros, ALIGNMENT) + bytes(num_zeros)
    return fixed + member.name.encode() + zip64 + padding


def central_directory(members: Sequence[Member]) -> bytes:
    """Return the bytes after the last member: the directory and the end records."""
    directory = b"".join(map(_directory_entry, members))
    start, count, size = members[-1].end, len(members), len(directory)
    versions = (_VERSION_WITH_ZIP64, _VERSION_WITH_ZIP64)
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, *versions, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, size, min(start, _IN_EXTRA), 0)
    return directory + end64 + locator + end


def _directory_entry(member: Member) -> bytes:
    extra = struct.pack("<2H3Q", 1, 24, member.num_bytes, member.num_bytes, member.start)
    made_by_unix = (3 << 8) | _VERSION_WITH_ZIP64
    # As in the local header, then comment length, disk, internal and external attributes, offset.
    numbers = (made_by_unix, _VERSION_WITH_ZIP64, 0, 0, 0, _DATE, member.crc, _IN_EXTRA, _IN_EXTRA)
    rest = (len(member.name), len(extra), 0, 0, 0, _UNIX_FILE, _IN_EXTRA)
    return struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *numbers, *rest) + member.name.encode() + extra
