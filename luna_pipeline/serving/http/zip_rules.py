"""Which members a zip file from outside may have; the same rules while it arrives and before it is unpacked."""

import struct
import zipfile

from luna_pipeline.core.storage.zip_members import DEFLATE64, problem_of
from luna_pipeline.serving.config import UploadLimits
from luna_pipeline.serving.http.problems import Problem

ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar", ".xz", ".bz2", ".zst", ".jar", ".tar.gz")
ARCHIVE_HEADS = (b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")
LOCAL_HEADER, _LOCAL_BYTES = b"PK\x03\x04", 30
_HAS_DESCRIPTOR, _IS_UTF8 = 8, 0x800
_ZIP64, _IN_ZIP64 = 1, 0xFFFFFFFF
_AGAIN = "Zip the DICOM files of one series and send them again."


class MemberRules:
    """Checks members one after the other; messages name a member by its number, never by its name."""

    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._num_members = self._num_bytes = 0

    def check(self, member: zipfile.ZipInfo) -> None:
        """Check a member by its header.

        Raises:
            Problem: If it must not be unpacked, or if it exceeds a limit together with those before it.
        """
        self._num_members += 1
        self._num_bytes += member.file_size
        limits, which = self._limits, f"member {self._num_members}"
        if problem := problem_of(member):
            rule = f"Members of a zip file must be plain files below its folder, got {problem.rstrip(',')} ({which})."
            raise Problem(422, f"{rule} {_AGAIN}")
        if member.filename.lower().endswith(ARCHIVES):
            raise nested(self._num_members)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            name = " (Deflate64)" if member.compress_type == DEFLATE64 else ""
            rule = (
                f"Members of a zip file must be stored or deflated, got method {member.compress_type}{name} ({which})."
            )
            raise Problem(422, f"{rule} {_AGAIN}")
        if self._num_members > limits.max_files:
            raise Problem(413, f"A zip file must have at most {limits.max_files} members, got more. {_AGAIN}")
        if self._num_bytes > limits.max_unpacked_bytes:
            rule = f"A zip file must have at most {limits.max_unpacked_bytes} bytes unpacked, got more announced."
            raise Problem(413, f"{rule} {_AGAIN}")

    def check_ratio(self, num_packed_bytes: int) -> None:
        """Check the bytes of all members against those of the zip file.

        Raises:
            Problem: If they announce too many for its length, as bombs do.
        """
        if self._num_bytes > self._limits.max_ratio * num_packed_bytes:
            ratio = self._num_bytes / max(1, num_packed_bytes)
            rule = (
                f"A zip file must unpack to at most {self._limits.max_ratio:g} times its length, got {ratio:.0f} times."
            )
            raise Problem(413, f"{rule} {_AGAIN}")


def nested(number: int) -> Problem:
    """Return the refusal of an archive within a zip file."""
    return Problem(422, f"A zip file must not hold archives, got one (member {number}). {_AGAIN}")


class ZipWatch:
    """Checks the members of a zip file while it arrives, so that a wrong one ends the upload at once.

    It follows the local headers. A member without an announced length ends that, as its end is not known then: the
    directory at the end of the file is checked in any case before anything is unpacked.
    """

    def __init__(self, limits: UploadLimits) -> None:
        self._rules = MemberRules(limits)
        self._held = bytearray()
        self._num_skipped = 0
        self._is_done = False

    def feed(self, block: bytes) -> None:
        """Take the next bytes.

        Raises:
            Problem: If a member is refused.
        """
        if self._is_done:
            return
        self._held += block
        while not self._is_done:
            num_passed = min(self._num_skipped, len(self._held))
            del self._held[:num_passed]
            self._num_skipped -= num_passed
            if self._num_skipped or not self._take_header():
                return

    def _take_header(self) -> bool:
        """Check the next local header; return whether it was there in full."""
        held = self._held
        if len(held) < _LOCAL_BYTES:
            return False
        if held[:4] != LOCAL_HEADER:
            self._is_done = True
            return False
        flags, method = struct.unpack_from("<HH", held, 6)
        packed, unpacked, name_bytes, extra_bytes = struct.unpack_from("<IIHH", held, 18)
        end = _LOCAL_BYTES + name_bytes + extra_bytes
        if len(held) < end:
            return False
        name = bytes(held[_LOCAL_BYTES : _LOCAL_BYTES + name_bytes]).decode(
            "utf-8" if flags & _IS_UTF8 else "cp437", errors="replace"
        )
        if _IN_ZIP64 in (packed, unpacked):
            unpacked, packed = _zip64_sizes(bytes(held[end - extra_bytes : end]))
        self._rules.check(_member(name, flags, method, unpacked))
        self._is_done = bool(flags & _HAS_DESCRIPTOR) and not packed
        self._num_skipped = end + packed
        return True


def _member(name: str, flags: int, method: int, num_bytes: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.flag_bits, member.compress_type, member.file_size = flags, method, num_bytes
    return member


def _zip64_sizes(extra: bytes) -> tuple[int, int]:
    """Return unpacked and packed bytes from the extra field; 0 if it has none, so that the directory decides."""
    place = 0
    while place + 4 <= len(extra):
        kind, num_bytes = struct.unpack_from("<HH", extra, place)
        if kind == _ZIP64 and num_bytes >= 16 and place + 20 <= len(extra):
            unpacked, packed = struct.unpack_from("<QQ", extra, place + 4)
            return unpacked, packed
        place += 4 + num_bytes
    return 0, 0
