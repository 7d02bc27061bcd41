"""Unpacking of DICOM pixels: deflated files, and the frames that ``dicom_decoder`` unpacks in its own process."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.storage.regular_files import open_regular

_PROGRAM = Path(__file__).with_name("dicom_decoder.py")
_MIB = 1 << 20
# Python with NumPy, pydicom and GDCM takes 0.5 GiB of addresses.
_NUM_START_BYTES = 1 << 30
# Decoders take a second for 10 to 100 MiB; a machine may be busy.
_START_S, _SECONDS_PER_MIB = 30, 1
_PART_BYTES = 1 << 18


class InflatedFile:
    """The part of a deflated DICOM file behind its meta header, unpacked as far as it is read.

    It is a file to pydicom: ``read``, ``seek`` and ``tell``. What was unpacked is kept, up to ``limit`` bytes.

    Raises:
        ValueError: If more than ``limit`` bytes are asked for, or the stream is damaged.
    """

    def __init__(self, file: BinaryIO, *, limit: int) -> None:
        self._file, self._limit, self._place = file, limit, 0
        self._held = bytearray()
        self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, num_bytes: int = -1) -> bytes:
        """Return the next bytes, fewer at the end of the stream; all that are left if the number is negative."""
        end = self._limit + 1 if num_bytes < 0 else self._place + num_bytes
        self._fill(end)
        part = bytes(self._held[self._place : end])
        self._place += len(part)
        return part

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place and return it; the end is known only by unpacking everything."""
        if whence == os.SEEK_END:
            self._fill(self._limit + 1)
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: len(self._held)}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def _fill(self, end: int) -> None:
        """Unpack until ``end`` bytes are held, or the stream ends."""
        while len(self._held) < end and not self._unpacker.eof:
            if len(self._held) > self._limit:
                raise ValueError(f"a deflated header must have at most {self._limit} bytes, got more")
            packed = self._unpacker.unconsumed_tail or self._file.read(_PART_BYTES)
            try:
                part = self._unpacker.decompress(packed, _PART_BYTES)
            except zlib.error as error:
                raise ValueError(f"a deflated file must unpack, got {error}") from error
            if not packed and not part:
                return
            self._held += part


def inflate(path: Path, start: int, num_bytes: int) -> bytes:
    """Return the first bytes of a deflated stream in a file; fewer where it ends before."""
    with open_regular(path) as file:
        file.seek(start)
        return InflatedFile(file, limit=num_bytes).read(num_bytes)


def decode_in_process(files: Sequence[dict[str, Any]], *, series_instance_uid: str) -> Iterator[NDArray[Any]]:
    """Yield the frames of files, each shape (R, C), unpacked by a process of its own.

    Args:
        files: For each file the keys that ``dicom_decoder.decoded_frames`` names, in the order of the result.
        series_instance_uid: For messages.

    Raises:
        UnreadableCtError: If a frame does not unpack, or the process crashes or exceeds its memory or time.
    """
    num_frame_bytes = max(int(np.prod(file["size_rc"])) * file["num_bits"] // 8 for file in files)
    num_bytes = sum(int(np.prod(file["size_rc"])) * file["num_bits"] // 8 * len(file["frames"]) for file in files)
    num_packed_bytes = max(os.stat(file["path"]).st_size for file in files)
    limit_s = _START_S + _SECONDS_PER_MIB * (num_bytes // _MIB)
    # Decoders hold a frame in 32 bits a few times over; pydicom copies a packed frame.
    num_memory_bytes = _NUM_START_BYTES + 32 * num_frame_bytes + 4 * num_packed_bytes
    request = {"num_memory_bytes": num_memory_bytes, "limit_s": limit_s, "files": files}
    # -P: neither the working folder nor that of the program may replace a module.
    command = [sys.executable, "-P", str(_PROGRAM)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
        ) as process,
    ):
        assert process.stdin is not None
        assert isinstance(process.stdout, io.BufferedReader)
        try:
            try:
                process.stdin.write(json.dumps(request).encode())
                process.stdin.close()
            # It ended before: its exit code and errors say why.
            except BrokenPipeError:
                pass
            for file in files:
                for number in file["frames"]:
                    frame = np.empty(file["size_rc"], dtype=file["dtype"])
                    if process.stdout.readinto(frame.reshape(-1).view(np.uint8).data) != frame.nbytes:
                        reason = _reason_of(process.wait(), errors, limit_s=limit_s)
                        name = Path(file["path"]).name
                        place = name if file["num_frames"] == 1 else f"frame {number + 1} of {name}"
                        raise UnreadableCtError(
                            f"Packed frames must unpack, got: {reason} ({place}, series {series_instance_uid}). "
                            "Copy the file again, or store its pixels uncompressed."
                        )
                    yield frame
        finally:
            process.kill()


def _reason_of(exit_code: int, errors: IO[bytes], *, limit_s: int) -> str:
    if exit_code == -signal.SIGALRM:
        return f"a decoder that needs more than {limit_s} s"
    if exit_code < 0:
        return f"a decoder that crashes ({signal.Signals(-exit_code).name})"
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 10_000))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:300].strip().rstrip(".") if lines else "too few frames"
