"""Members of zip files: which are refused before anything is written, and unpacking of one with its CRC-32.

Source:
    PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 and 4.4.
"""

import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from luna_pipeline.core.storage.files import written_atomically
from luna_pipeline.core.storage.regular_files import open_regular
from luna_pipeline.core.storage.zip_limits import MEMBER_DAMAGES

DEFLATE64 = 9
_BLOCK_BYTES = 1 << 20
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_NAMES = {1: "Shrink", 6: "Implode", DEFLATE64: "Deflate64", 12: "BZIP2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
_ENCRYPTED = 1
# What zipfile raises of damaged bytes; errors of the disk are not among them.
_DAMAGE = (*MEMBER_DAMAGES, ValueError, struct.error)


class RefusedZipError(ValueError):
    """A zip file with a member that must not be unpacked, or that cannot be."""


class BrokenMemberError(ValueError):
    """A member whose bytes are not those that its directory announces."""


def open_zip(file: Path | BinaryIO) -> zipfile.ZipFile:
    """Open a zip file for reading.

    Raises:
        zipfile.BadZipFile: If its directory is damaged, in whatever way.
    """
    try:
        return zipfile.ZipFile(file)
    except _DAMAGE as error:
        raise zipfile.BadZipFile(f"The zip directory must be whole, got one that is not ({error}).") from error


def files_in(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """Return the members that are files.

    Args:
        archive: The open zip file.
        name: Its name, for messages.

    Raises:
        RefusedZipError: If a member would be written outside the folder, is a link or device, is encrypted, or if two
            have the same name. Nothing was written then.
    """
    members = archive.infolist()
    for member in members:
        if problem := problem_of(member):
            msg = f"Members must be plain files below the folder, got {problem} {member.filename[:80]!r} ({name})."
            raise RefusedZipError(f"{msg} Nothing of it is unpacked; take the archive from its publisher.")
    files = [member for member in members if not member.is_dir()]
    seen: set[str] = set()
    for member in files:
        parents = {str(parent) for parent in Path(member.filename).parents}
        if member.filename in seen or seen & parents:
            msg = f"Members must have different names, got {member.filename[:80]!r} twice ({name})."
            raise RefusedZipError(f"{msg} Nothing of it is unpacked; take the archive from its publisher.")
        seen.add(member.filename)
    return files


def require_methods(members: list[zipfile.ZipInfo], name: str) -> None:
    """Check that Python can unpack the members.

    Raises:
        RefusedZipError: If one is packed by another method than stored or deflated, such as Deflate64.
    """
    others = [member for member in members if member.compress_type not in _METHODS]
    if others:
        method = others[0].compress_type
        got = f"zip method {method} ({_NAMES.get(method, 'unknown')}) of {len(others)} members"
        msg = f"Members must be stored or deflated (zip method 0 or 8), got {got} ({name}). Python cannot unpack it:"
        raise RefusedZipError(
            f"{msg} download it with --keep-archives, unpack it with 7-Zip (7z x {name}) in the same folder, and run "
            "the command again: it recognises the files by size and CRC-32."
        )


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, stop: threading.Event | None = None) -> bool:
    """Write a member to its final path, under a temporary name until size and CRC-32 are right and it is flushed.

    Args:
        archive: The open zip file.
        member: The member.
        path: Its final path.
        stop: Set to give up; nothing is written then.

    Returns:
        False if ``stop`` was set.

    Raises:
        BrokenMemberError: If it does not unpack, or has another size or CRC-32 than announced.
        OSError: If it cannot be written; a full disk is ``ENOSPC`` with the path.
    """
    try:
        with written_atomically(path) as file:
            for block in _blocks(archive, member):
                if stop is not None and stop.is_set():
                    raise _StoppedError
                file.write(block)
    except _StoppedError:
        return False
    return True


def fault_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str | None:
    """Read a member without writing it; return why it is broken, None if it is whole."""
    try:
        for _ in _blocks(archive, member):
            pass
    except BrokenMemberError as error:
        return str(error)
    return None


def has_content(path: Path, member: zipfile.ZipInfo) -> bool:
    """Return whether a file has the size and CRC-32 of a member; False if there is none."""
    try:
        if path.stat().st_size != member.file_size:
            return False
        with open_regular(path) as file:
            crc = 0
            while block := file.read(_BLOCK_BYTES):
                crc = zlib.crc32(block, crc)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return crc == member.CRC


class _StoppedError(Exception):
    """The caller gave up."""


def _blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the unpacked bytes of a member in blocks of 1 MiB; zipfile compares the CRC-32 with the last one.

    Raises:
        BrokenMemberError: If it does not unpack.
    """
    left = member.file_size
    try:
        with archive.open(member) as file:
            while block := file.read(_BLOCK_BYTES):
                left -= len(block)
                yield block
    except _DAMAGE as error:
        raise BrokenMemberError(" ".join(str(error).split()) or type(error).__name__) from error
    if left:
        raise BrokenMemberError(f"{member.file_size - left} bytes in place of {member.file_size}")


def problem_of(member: zipfile.ZipInfo) -> str | None:
    """Return what is wrong with a member's name or kind, in words without the name; None if nothing is."""
    # zipfile cuts a name at a NUL byte; orig_filename is as in the file.
    name = member.orig_filename
    mode = member.external_attr >> 16
    parts = name.rstrip("/").split("/")
    if "\0" in name or "\\" in name or ":" in name or not name.isprintable():
        return "an odd name"
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "a place outside the folder,"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or device,"
    if member.flag_bits & _ENCRYPTED:
        return "an encrypted member"
    return None
