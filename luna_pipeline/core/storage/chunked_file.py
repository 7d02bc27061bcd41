"""A file that arrives in chunks, in any order and over several calls, with a journal of what has arrived.

The journal is a text file beside it: a line of JSON that names the file (bytes, MD5, bytes a chunk), then a line
``CHUNK RECEIVED CRC32`` for each advance of a chunk, of which the last one is valid. A line without its line feed was
cut off by a kill and is ignored. Bytes are written before their line, so a killed process loses only what came after
the last line. After a power cut a line may be there without its bytes; the CRC-32 shows it (``damaged``).
"""

import hashlib
import json
import os
import re
import threading
import zlib
from pathlib import Path
from types import TracebackType

from luna_pipeline.core.storage.files import write_bytes

_LINE = re.compile(rb"(\d{1,9}) (\d{1,15}) ([0-9a-f]{8})")
_BLOCK_BYTES = 1 << 20


class ChunkedFile:
    """An incomplete file and its journal; open it once at a time (the caller holds a lock)."""

    def __init__(self, path: Path, *, num_bytes: int, md5: str, chunk_bytes: int) -> None:
        """Open what an earlier call left, or start an empty file.

        Args:
            path: The incomplete file; ``PATH.journal`` is its journal. Its folder is created.
            num_bytes: Size of the complete file.
            md5: MD5 of the complete file, 32 hexadecimal digits. What arrived of a file with another one is discarded.
            chunk_bytes: Size of a chunk; an earlier call's file keeps its own.

        Raises:
            OSError: If the disk is full or cannot be written.
        """
        self.path, self.num_bytes, self.md5 = path, num_bytes, md5
        self.journal_path = path.with_name(f"{path.name}.journal")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._received: dict[int, tuple[int, int]] = {}
        kept = self._read_journal()
        self.chunk_bytes = kept or chunk_bytes
        if kept is None:
            self._start()
        self._file = os.open(path, os.O_RDWR)
        self._journal = os.open(self.journal_path, os.O_WRONLY | os.O_APPEND)
        self._lock = threading.Lock()

    def __enter__(self) -> "ChunkedFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close both files; a second call does nothing."""
        for descriptor in (self._file, self._journal):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._journal = -1

    @property
    def num_chunks(self) -> int:
        """Number of chunks; the last one may be shorter."""
        return -(-self.num_bytes // self.chunk_bytes)

    @property
    def num_received(self) -> int:
        """Bytes that have arrived."""
        return sum(received for received, _ in list(self._received.values()))

    def span(self, chunk: int) -> tuple[int, int]:
        """Return the first byte of a chunk and the one behind its last."""
        return chunk * self.chunk_bytes, min((chunk + 1) * self.chunk_bytes, self.num_bytes)

    def chunks_of(self, start: int, stop: int) -> list[int]:
        """Return the chunks that hold a byte of ``start`` to ``stop`` (exclusive)."""
        return list(range(start // self.chunk_bytes, -(-min(stop, self.num_bytes) // self.chunk_bytes)))

    def received(self, chunk: int) -> int:
        """Return how many bytes of a chunk have arrived, from its start."""
        return self._received.get(chunk, (0, 0))[0]

    def missing(self) -> list[int]:
        """Return the chunks that are not complete, ascending."""
        return [chunk for chunk in range(self.num_chunks) if not self.is_complete(chunk)]

    def is_complete(self, chunk: int) -> bool:
        """Return whether a whole chunk has arrived."""
        start, stop = self.span(chunk)
        return self.received(chunk) == stop - start

    def write(self, chunk: int, data: bytes) -> None:
        """Write the next bytes of a chunk; one thread a chunk. They count after a kill once ``note`` was called.

        Raises:
            ValueError: If there are more bytes than the chunk lacks.
            OSError: If they cannot be written; a full disk is ``ENOSPC`` with the path.
        """
        received, crc = self._received.get(chunk, (0, 0))
        start, stop = self.span(chunk)
        if start + received + len(data) > stop:
            raise ValueError(f"Chunk {chunk} must get at most {stop - start - received} bytes, got {len(data)}.")
        view, place = memoryview(data), start + received
        try:
            while view:
                done = os.pwrite(self._file, view, place)
                view, place = view[done:], place + done
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._received[chunk] = (received + len(data), zlib.crc32(data, crc))

    def note(self, chunk: int) -> None:
        """Append a line on what has arrived of a chunk.

        Raises:
            OSError: If it cannot be written; a full disk is ``ENOSPC`` with the path.
        """
        received, crc = self._received.get(chunk, (0, 0))
        line = b"%d %d %08x\n" % (chunk, received, crc)
        try:
            with self._lock:
                # A short write leaves a line without its end, which the next one must not continue.
                if os.write(self._journal, line) < len(line):
                    os.write(self._journal, b"\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.journal_path)) from error

    def restart(self, chunk: int) -> None:
        """Discard what has arrived of a chunk."""
        self._received.pop(chunk, None)
        self.note(chunk)

    def damaged(self) -> list[int]:
        """Read the file and return the chunks whose bytes are not those that arrived, ascending."""
        return [chunk for chunk, (received, crc) in sorted(self._received.items()) if self._crc(chunk, received) != crc]

    def md5_of_bytes(self, stop: threading.Event | None = None) -> str:
        """Return the MD5 of the whole file; an incomplete digest if ``stop`` is set meanwhile."""
        digest = hashlib.md5(usedforsecurity=False)
        with self.path.open("rb") as file:
            while (block := file.read(_BLOCK_BYTES)) and not (stop is not None and stop.is_set()):
                digest.update(block)
        return digest.hexdigest()

    def move_to(self, path: Path) -> None:
        """Flush the complete file, give it its final name and remove the journal."""
        os.fsync(self._file)
        self.close()
        os.replace(self.path, path)
        self.journal_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file and its journal."""
        self.close()
        # The journal first: a file without one is started from scratch.
        self.journal_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _crc(self, chunk: int, num_bytes: int) -> int:
        crc, place = 0, self.span(chunk)[0]
        stop = place + num_bytes
        while place < stop and (block := os.pread(self._file, min(_BLOCK_BYTES, stop - place), place)):
            crc, place = zlib.crc32(block, crc), place + len(block)
        return crc

    def _start(self) -> None:
        self.journal_path.unlink(missing_ok=True)
        with self.path.open("wb") as file:
            # Sparse: disk space is used as bytes arrive.
            file.truncate(self.num_bytes)
        header = {"num_bytes": self.num_bytes, "md5": self.md5, "chunk_bytes": self.chunk_bytes}
        write_bytes(self.journal_path, json.dumps(header).encode() + b"\n")

    def _read_journal(self) -> int | None:
        """Return the chunk size of the journal; None if there is none of this file."""
        try:
            if self.path.stat().st_size != self.num_bytes:
                return None
            content = self.journal_path.read_bytes()
        except FileNotFoundError:
            return None
        header, *lines = content.split(b"\n")
        chunk_bytes = self._chunk_bytes_of(header)
        if chunk_bytes is None:
            return None
        self.chunk_bytes = chunk_bytes
        # The last one is empty, or was cut off.
        for line in lines[:-1]:
            self._adopt(line)
        if lines[-1]:
            with self.journal_path.open("ab") as journal:
                journal.write(b"\n")
        return chunk_bytes

    def _chunk_bytes_of(self, header: bytes) -> int | None:
        try:
            found = json.loads(header)
        except ValueError:
            return None
        same = isinstance(found, dict) and (found.get("num_bytes"), found.get("md5")) == (self.num_bytes, self.md5)
        chunk_bytes = found.get("chunk_bytes") if same else None
        return chunk_bytes if isinstance(chunk_bytes, int) and chunk_bytes > 0 else None

    def _adopt(self, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        if found is None or int(found[1]) >= self.num_chunks:
            return
        chunk, received = int(found[1]), int(found[2])
        start, stop = self.span(chunk)
        if received <= stop - start:
            self._received[chunk] = (received, int(found[3], 16))
