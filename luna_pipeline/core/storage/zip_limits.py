"""Sizes that a zip file announces, compared with the file's before a member is read.

Source:
    PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16.
"""

import io
import lzma
import struct
import zipfile
import zlib
from typing import BinaryIO

MEMBER_DAMAGES = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
"""Errors of reading a damaged member; RuntimeError is a password, or as NotImplementedError another compression."""

_MAX_DIRECTORY_BYTES = 16 << 20
_MAX_MEMBERS = 10_000
_ENTRY_BYTES = 46
# Headers, names and alignment of a member, and the end records.
_MEMBER_OVERHEAD_BYTES, _END_BYTES = 1024, 4096
# A DEFLATE stream unpacks to at most 1,032 times its length.
_MAX_DEFLATE_RATIO = 1032


def zip_problem(file: BinaryIO, *, max_member_bytes: int | None = None, max_members: int = _MAX_MEMBERS) -> str | None:
    """Return what a zip file announces that cannot be right, None if nothing is; no member is read.

    Args:
        file: Open for reading and seeking.
        max_member_bytes: Largest length of an unpacked member; packed members are then allowed. None: all members must
            be stored unpacked, and fill the file.
        max_members: Largest number of members. They are counted first: zipfile takes 15 µs and 400 bytes for each.
    """
    num_bytes = file.seek(0, io.SEEK_END)
    directory_bytes, tail_bytes = _end_records(file)
    if directory_bytes is None or directory_bytes > min(num_bytes, _MAX_DIRECTORY_BYTES):
        return f"{num_bytes} bytes with {directory_bytes or 'no'} bytes of directory at the end"
    file.seek(max(0, num_bytes - tail_bytes - directory_bytes))
    if _has_more_entries(file.read(directory_bytes), max_members):
        return f"more than {max_members} members"
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    # zipfile raises many kinds of errors for a damaged directory.
    except Exception as error:
        return f"a damaged zip directory: {' '.join(str(error).split()) or type(error).__name__}"
    for member in members:
        if problem := _member_problem(member, max_member_bytes):
            return problem
    packed = sum(member.compress_size for member in members)
    overhead = _END_BYTES + directory_bytes + sum(_MEMBER_OVERHEAD_BYTES + 2 * len(it.filename) for it in members)
    if not packed <= num_bytes <= packed + overhead:
        return f"members of {packed} bytes in a file of {num_bytes} bytes"
    return None


def _member_problem(member: zipfile.ZipInfo, max_bytes: int | None) -> str | None:
    is_stored = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
    if max_bytes is None:
        return None if is_stored else f"a packed member {member.filename!r:.80}"
    is_possible = member.file_size <= min(max_bytes, _MAX_DEFLATE_RATIO * member.compress_size)
    return None if is_possible else f"{member.file_size} bytes announced for {member.filename!r:.80}"


def _end_records(file: BinaryIO) -> tuple[int | None, int]:
    """Return the lengths of the central directory, None where no end record ends the file, and of the end records."""
    num_bytes = file.seek(0, io.SEEK_END)
    file.seek(max(0, num_bytes - 98))
    tail = file.read().rjust(98, b"\0")
    if tail[76:80] != b"PK\x05\x06":
        return None, 0
    if tail[56:60] == b"PK\x06\x07" and tail[:4] == b"PK\x06\x06":
        return int(struct.unpack_from("<Q", tail, 40)[0]), 98
    return int(struct.unpack_from("<I", tail, 76 + 12)[0]), 22


def _has_more_entries(directory: bytes, most: int) -> bool:
    """Return whether a central directory has more entries than ``most``; the count in the end record may be wrong."""
    place = number = 0
    while place + _ENTRY_BYTES <= len(directory) and number <= most:
        # Of its name, extra field and comment.
        place += _ENTRY_BYTES + sum(struct.unpack_from("<3H", directory, place + 28))
        number += 1
    return number > most
