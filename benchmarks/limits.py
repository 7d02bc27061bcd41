"""Limits of the machine: reading and writing the same bytes without processing."""

import os
from io import FileIO
from pathlib import Path

import numpy as np


class ByteMover:
    """Reads a whole voxel file and writes as many bytes as its cutouts have; both buffers are reused.

    Args:
        source: The voxel file.
        target: The file that is written.
        num_bytes: Number of bytes written.
    """

    def __init__(self, source: Path, *, target: Path, num_bytes: int) -> None:
        self.source, self.target, self.num_bytes = source, target, num_bytes
        self._read_into = bytearray(source.stat().st_size)
        self._content = np.random.default_rng(0).bytes(num_bytes)

    def read_write(self, *, is_reserved: bool, is_synced: bool) -> None:
        """Read all, write all.

        Args:
            is_reserved: Whether the file's blocks are reserved before writing.
            is_synced: Whether to wait until the disk has them.
        """
        with self.source.open("rb", buffering=0) as file:
            file.readinto(self._read_into)
        self._write(self._content, is_reserved=is_reserved, is_synced=is_synced)

    def read_write_fresh(self) -> None:
        """Read all into new memory and write it, as a plain script would."""
        self._write(self.source.read_bytes(), is_reserved=False, is_synced=False)

    def send(self, *, is_reserved: bool) -> None:
        """Let the kernel copy the voxel file, up to the number of bytes."""
        with self.source.open("rb", buffering=0) as source, self._opened(is_reserved=is_reserved) as target:
            offset = 0
            while sent := os.sendfile(target.fileno(), source.fileno(), offset, self.num_bytes - offset):
                offset += sent

    def remove(self) -> None:
        """Remove what was written."""
        self.target.unlink(missing_ok=True)

    def _write(self, content: bytes, *, is_reserved: bool, is_synced: bool) -> None:
        left = memoryview(content)[: self.num_bytes]
        with self._opened(is_reserved=is_reserved) as target:
            while left:
                left = left[os.write(target.fileno(), left) :]
            if is_synced:
                os.fsync(target.fileno())

    def _opened(self, *, is_reserved: bool) -> FileIO:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        file = self.target.open("wb", buffering=0)
        if is_reserved:
            os.posix_fallocate(file.fileno(), 0, self.num_bytes)
        return file
