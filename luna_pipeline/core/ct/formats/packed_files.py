"""Unpacking of gzip and zlib data, never further than asked for."""

from typing import Any, BinaryIO, Protocol, cast

from isal import igzip_lib, isal_zlib

# Raised by isal for damaged data; isal's type stubs declare it as another type.
UnpackingError = cast("type[Exception]", igzip_lib.IsalError)
# Small enough that unpacked bytes are still in the processor's cache when they are copied to their place.
_PACKED_BYTES = 1 << 18
# A packed part of an ordinary CT gives less; zeros give a thousand times its length.
_MAX_PART_BYTES = 1 << 23
_GZIP_MAGIC = b"\x1f\x8b"


class ByteSource(Protocol):
    """Bytes one after the other."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer of bytes and return how many were there: fewer only at the end."""


def byte_source(file: BinaryIO, *, is_packed: bool, is_zlib_allowed: bool = False) -> ByteSource:
    """Return a file, at its current place, as it is or unpacked.

    Raises:
        ValueError: If it is not packed as it must be.
    """
    # Typeshed's BinaryIO lacks ``readinto``, which every file opened for reading has.
    return PackedFile(file, is_zlib_allowed=is_zlib_allowed) if is_packed else cast("ByteSource", file)


class PackedFile:
    """Unpacks one zlib stream, or gzip members one after the other, from the place of a file on.

    Nothing but further gzip members may follow: other bytes are refused, for all formats alike.

    Args:
        file: The file, at the first packed byte.
        is_zlib_allowed: Whether a zlib stream is accepted besides gzip.

    Raises:
        ValueError: If the data are neither; from ``readinto``: if they are damaged, truncated or followed by others.
    """

    def __init__(self, file: BinaryIO, *, is_zlib_allowed: bool = False) -> None:
        self._file = file
        self._packed = file.read(_PACKED_BYTES)
        self._is_gzip = self._packed.startswith(_GZIP_MAGIC)
        if not self._is_gzip and not is_zlib_allowed:
            msg = f"data that begin with {self._packed[:2].hex(' ') or 'nothing'} instead of gzip's 1f 8b"
            raise ValueError(msg)
        self._unpacker: Any = self._new_unpacker()

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer of bytes and return how many were there: fewer only at the end."""
        got = 0
        try:
            while got < len(buffer) and (part := self._unpacked(min(len(buffer) - got, _MAX_PART_BYTES))):
                buffer[got : got + len(part)] = part
                got += len(part)
        except UnpackingError as error:
            raise ValueError(str(error)) from error
        return got

    def _unpacked(self, num_bytes: int) -> bytes:
        """Return the next bytes, at most ``num_bytes``; none at the end."""
        while not self._unpacker.eof or self._starts_another():
            packed = self._packed or self._file.read(_PACKED_BYTES)
            part: bytes = self._unpacker.decompress(packed, num_bytes)
            self._packed = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            if part:
                return part
            # Without new input and without output there is nothing to wait for.
            if not packed and not self._unpacker.eof:
                msg = "an early end of the packed data"
                raise ValueError(msg)
        return b""

    def _starts_another(self) -> bool:
        rest = self._packed + self._file.read(max(0, len(_GZIP_MAGIC) - len(self._packed)))
        if not rest:
            return False
        if not self._is_gzip or not rest.startswith(_GZIP_MAGIC):
            msg = "other bytes behind the packed data"
            raise ValueError(msg)
        self._packed, self._unpacker = rest, self._new_unpacker()
        return True

    def _new_unpacker(self) -> Any:
        return isal_zlib.decompressobj(wbits=isal_zlib.MAX_WBITS + (16 if self._is_gzip else 0))
