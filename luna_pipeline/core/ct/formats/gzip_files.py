"""What a gzip-compressed file holds, without keeping it."""

# isal has no types for its files.
# mypy: allow-untyped-calls

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from isal import igzip, igzip_lib

# What isal raises on damaged data; its types say that it is something else.
UnpackingError = cast("type[Exception]", igzip_lib.IsalError)
_CHUNK_BYTES = 1 << 20


def unpacked_length(path: Path, *, offset: int = 0) -> int:
    """Unpack a file from a byte on and count.

    Raises:
        ValueError: If it does not unpack, or ends too early.
    """
    got = 0
    with _unpacking(path, offset) as file:
        while chunk := file.read(_CHUNK_BYTES):
            got += len(chunk)
    return got


def unpacked_head(path: Path, num_bytes: int) -> bytes:
    """Return the first bytes of what a file holds.

    Raises:
        ValueError: If it does not unpack.
    """
    with _unpacking(path, 0) as file:
        return file.read(num_bytes)


@contextlib.contextmanager
def _unpacking(path: Path, offset: int) -> Iterator[IO[bytes]]:
    with path.open("rb") as packed:
        packed.seek(offset)
        try:
            with igzip.IGzipFile(fileobj=packed, mode="rb") as file:
                yield cast("IO[bytes]", file)
        except (EOFError, OSError, UnpackingError) as error:
            raise ValueError(str(error)) from error
