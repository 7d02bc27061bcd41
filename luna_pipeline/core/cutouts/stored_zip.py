"""The bytes of a zip file whose members are stored as they are, each on a boundary of its own.

Sizes are always written with 64 bits: chunks may exceed 4 GB, and a header's length is then known beforehand.

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
# Tag of the field that Android's zipalign registered for alignment; others skip it.
_PADDING_TAG = 0xD935
_VERSION_WITH_ZIP64 = 45
# 1980-01-01 00:00: equal contents give equal bytes.
_DATE = (1 << 5) | 1
_IN_EXTRA = 0xFFFFFFFF
_UNIX_FILE = 0o100644 << 16


class Member(NamedTuple):
    """A file in the zip file.

    Attributes:
        name: Its name.
        start: Where its local header begins.
        offset: Where its content begins, a multiple of ALIGNMENT.
        num_bytes: Length of the content.
        crc: CRC-32 of the content.
    """

    name: str
    start: int
    offset: int
    num_bytes: int
    crc: int = 0

    @property
    def end(self) -> int:
        """Where its content ends."""
        return self.offset + self.num_bytes


def placed(name: str, start: int, num_bytes: int) -> Member:
    """Return a member whose local header begins at ``start``."""
    unpadded = start + _LOCAL_HEADER_BYTES + len(name) + _ZIP64_EXTRA_BYTES + 6
    return Member(name, start, unpadded + -unpadded % ALIGNMENT, num_bytes)


def local_header(member: Member) -> bytes:
    """Return what stands before a member's content; it ends at ``member.offset``."""
    num_extra = member.offset - member.start - _LOCAL_HEADER_BYTES - len(member.name)
    num_zeros = num_extra - _ZIP64_EXTRA_BYTES - 6
    fixed = struct.pack(
        "<4s5H3I2H",
        b"PK\x03\x04",
        _VERSION_WITH_ZIP64,
        0,
        0,
        0,
        _DATE,
        member.crc,
        _IN_EXTRA,
        _IN_EXTRA,
        len(member.name),
        num_extra,
    )
    zip64 = struct.pack("<2H2Q", 1, 16, member.num_bytes, member.num_bytes)
    padding = struct.pack("<3H", _PADDING_TAG, 2 + num_zeros, ALIGNMENT) + bytes(num_zeros)
    return fixed + member.name.encode() + zip64 + padding


def central_directory(members: Sequence[Member]) -> bytes:
    """Return what stands behind the last member: the directory and the records that end the file."""
    directory = b"".join(map(_directory_entry, members))
    start = members[-1].end
    end64 = struct.pack(
        "<4sQ2H2I4Q",
        b"PK\x06\x06",
        44,
        _VERSION_WITH_ZIP64,
        _VERSION_WITH_ZIP64,
        0,
        0,
        len(members),
        len(members),
        len(directory),
        start,
    )
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, start + len(directory), 1)
    end = struct.pack(
        "<4s4H2IH", b"PK\x05\x06", 0, 0, len(members), len(members), len(directory), min(start, _IN_EXTRA), 0
    )
    return directory + end64 + locator + end


def _directory_entry(member: Member) -> bytes:
    extra = struct.pack("<2H3Q", 1, 24, member.num_bytes, member.num_bytes, member.start)
    made_by_unix = (3 << 8) | _VERSION_WITH_ZIP64
    fixed = struct.pack(
        "<4s6H3I5H2I",
        b"PK\x01\x02",
        made_by_unix,
        _VERSION_WITH_ZIP64,
        0,
        0,
        0,
        _DATE,
        member.crc,
        _IN_EXTRA,
        _IN_EXTRA,
        len(member.name),
        len(extra),
        0,
        0,
        0,
        _UNIX_FILE,
        _IN_EXTRA,
    )
    return fixed + member.name.encode() + extra
