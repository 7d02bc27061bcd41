"""Length and head of gzip-compressed files, without keeping their content."""

# isal has no types for its files.
# mypy: allow-untyped-calls

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from isal import igzip, igzip_lib

# Raised by isal for damaged data; isal's type stubs declare it as another type.
UnpackingError = cast("type[Exception]", igzip_lib.IsalError)
_CHUNK_BYTES = 1 << 20


def unpacked_length(path: Path, *, offset: int = 0) -> int:
    """Return the unpacked length of a file from a byte on.

    Raises:
        ValueError: If it does not unpack or is truncated.
    """
    got = 0
    with _unpacking(path, offset) as file:
        while chunk := file.read(_CHUNK_BYTES):
            got += len(chunk)
    return got


def unpacked_head(path: Path, num_bytes: int) -> bytes:
    """Return the first unpacked bytes of a file.

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
