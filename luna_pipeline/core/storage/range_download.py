"""Download of a file over several connections at once, each chunk by a request for its range."""

import contextlib
import errno
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from luna_pipeline.core.storage.chunked_file import ChunkedFile
from luna_pipeline.core.storage.http_ranges import (
    RangesIgnoredError,
    RefusedError,
    RetryPolicy,
    TransferError,
    stream_range,
    stream_whole,
)

if TYPE_CHECKING:
    import httpx

# An attempt that brought this share of a chunk is progress: the count of failures starts again.
_PROGRESS_SHARE = 16
_POLL_SECONDS = 0.2


class StoppedError(Exception):
    """The download was stopped by the caller; what arrived is kept."""


class RangeDownload:
    """Downloads chunks of one file; what arrives is written and noted at once."""

    def __init__(
        self,
        client: "httpx.Client",
        url: str,
        file: ChunkedFile,
        *,
        report: Callable[[str], object],
        on_bytes: Callable[[int], object] = lambda _: None,
        num_connections: int = 4,
        policy: RetryPolicy | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Set up; no request is made.

        Args:
            client: Connections of httpx.
            url: Address of the file.
            file: Where its chunks are written.
            report: Called with one line for each fault, from any thread.
            on_bytes: Called with the number of bytes of each block that was written, from any thread.
            num_connections: Requests at the same time.
            policy: Repetition of failed requests; None for the default one.
            stop: Ends the download when it is set, with ``StoppedError``.
        """
        self._client, self._url, self._file = client, url, file
        self._report, self._on_bytes, self._policy = report, on_bytes, policy or RetryPolicy()
        self._num_connections, self._stop = num_connections, stop or threading.Event()
        # A chunk's bytes are noted so often that a killed process loses less than one chunk over all connections.
        self._note_bytes = max(1, file.chunk_bytes // (2 * num_connections))
        self._failed = threading.Event()
        self._lock = threading.Lock()
        self._not_before = 0.0
        # Jitter need not be repeatable.
        self._rng = random.Random()

    def fetch(self, chunks: Collection[int] | None = None, *, may_stream: bool = True) -> None:
        """Download the missing ones of the given chunks; None for all.

        A server that ignores ranges is read from the start in one stream; chunks that are there are kept.

        Args:
            chunks: Their numbers.
            may_stream: Whether that stream is allowed, which brings all chunks; else nothing is downloaded from there.

        Raises:
            RefusedError: If a fault lasts, or the server refuses.
            StoppedError: If ``stop`` was set.
            OSError: If a file cannot be written, such as on a full disk.
        """
        wanted = [chunk for chunk in self._file.missing() if chunks is None or chunk in chunks]
        if not wanted:
            return
        try:
            self._fetch_ranges(wanted)
        except RangesIgnoredError:
            if not may_stream:
                return
            self._report(f"{self._name}: the server ignores ranges; the file is read from its start, in one stream")
            self._fetch_in_one_stream()

    @property
    def _name(self) -> str:
        return self._file.path.name.removesuffix(".part")

    def _fetch_ranges(self, wanted: list[int]) -> None:
        self._failed.clear()
        waiting = iter(wanted)
        with ThreadPoolExecutor(min(self._num_connections, len(wanted)), "download") as executor:
            try:
                workers = [executor.submit(self._work, waiting) for _ in range(self._num_connections)]
                _wait_for(workers)
            finally:
                # Also after Ctrl-C: the threads end with their next block.
                self._failed.set()

    def _work(self, waiting: Iterator[int]) -> None:
        try:
            while (chunk := self._next(waiting)) is not None:
                self._fetch_chunk(chunk)
        except BaseException:
            self._failed.set()
            raise

    def _next(self, waiting: Iterator[int]) -> int | None:
        with self._lock:
            return next(waiting, None)

    def _fetch_chunk(self, chunk: int) -> None:
        failures = 0
        while not self._file.is_complete(chunk):
            start, stop = self._file.span(chunk)
            had = self._file.received(chunk)
            self._pause_until(self._not_before)
            try:
                with self._noted(chunk):
                    for block in stream_range(self._client, self._url, start + had, stop, total=self._file.num_bytes):
                        self._take(chunk, block)
            except TransferError as error:
                brought = self._file.received(chunk) - had
                failures = 1 if brought >= (stop - start) / _PROGRESS_SHARE else failures + 1
                self._after(error, f"bytes {start} to {stop - 1}", failures)

    def _fetch_in_one_stream(self) -> None:
        failures = 0
        self._failed.clear()
        while missing := self._file.missing():
            self._pause_until(self._not_before)
            try:
                self._read_one_stream(missing[-1])
            except TransferError as error:
                failures = 1 if len(self._file.missing()) < len(missing) else failures + 1
                self._after(error, "the whole file", failures)

    def _read_one_stream(self, last: int) -> None:
        place = 0
        with contextlib.closing(stream_whole(self._client, self._url, total=self._file.num_bytes)) as blocks:
            for block in blocks:
                for chunk in self._file.chunks_of(place, place + len(block)):
                    self._take_missing(chunk, block, place)
                place += len(block)
                self._check_stopped()
                if self._file.is_complete(last):
                    return

    def _take_missing(self, chunk: int, block: bytes, place: int) -> None:
        """Write those bytes of a block at ``place`` that a chunk lacks."""
        start, stop = self._file.span(chunk)
        needed = start + self._file.received(chunk)
        if needed < min(stop, place + len(block)):
            self._take(chunk, block[needed - place : stop - place])
            if self._file.is_complete(chunk):
                self._file.note(chunk)

    def _take(self, chunk: int, block: bytes) -> None:
        before = self._file.received(chunk)
        self._file.write(chunk, block)
        if before // self._note_bytes < self._file.received(chunk) // self._note_bytes:
            self._file.note(chunk)
        self._on_bytes(len(block))
        self._check_stopped()

    @contextlib.contextmanager
    def _noted(self, chunk: int) -> Iterator[None]:
        """Note what arrived of a chunk, also after a fault."""
        try:
            yield
        except BaseException:
            # On a full disk the line may not fit; the fault itself is what matters.
            with contextlib.suppress(OSError):
                self._file.note(chunk)
            raise
        self._file.note(chunk)

    def _after(self, error: TransferError, what: str, failures: int) -> None:
        """Report a fault and set the wait before the next attempt.

        Raises:
            RefusedError: If there were too many in a row.
        """
        if failures >= self._policy.max_attempts:
            msg = f"{self._name} must arrive within {failures} attempts, got {error} each time ({what})"
            raise RefusedError(f"{msg}. Run the command again: it continues where this one ended.") from error
        seconds = self._policy.seconds(failures, error, self._rng)
        self._report(f"{self._name}, {what}: {error}; attempt {failures + 1} in {seconds:.1f} s")
        until = time.monotonic() + seconds
        if error.retry_after_seconds is not None:
            # All connections wait: the server named a time, not a request.
            with self._lock:
                self._not_before = max(self._not_before, until)
        self._pause_until(until)

    def _pause_until(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            self._stop.wait(min(left, _POLL_SECONDS))
            self._check_stopped()

    def _check_stopped(self) -> None:
        if self._stop.is_set() or self._failed.is_set():
            raise StoppedError


def _wait_for(workers: list[Future[None]]) -> None:
    """Wait for all, and raise the first error that is not the stop of the others.

    Raises:
        StoppedError: If they were stopped from outside.
    """
    _, left = wait(workers, return_when=FIRST_EXCEPTION)
    wait(left)
    errors = [error for worker in workers if (error := worker.exception()) is not None]
    own = [error for error in errors if not isinstance(error, StoppedError)]
    for error in [*own, *errors]:
        raise error


def fetch_small(
    client: "httpx.Client",
    url: str,
    *,
    name: str,
    report: Callable[[str], object],
    max_bytes: int,
    policy: RetryPolicy | None = None,
    stop: threading.Event | None = None,
) -> bytes:
    """Return a small file's content, after repeated attempts if need be.

    Args:
        client: Connections of httpx.
        url: Address of the file.
        name: Name of the file, for messages.
        report: Called with one line for each fault that another attempt follows.
        max_bytes: Largest allowed size.
        policy: Repetition of failed requests; None for the default one.
        stop: Ends the waits when it is set.

    Raises:
        RefusedError: If a fault lasts, the server refuses, or the file has more than ``max_bytes``.
        StoppedError: If ``stop`` was set.
    """
    policy, rng, stop = policy or RetryPolicy(), random.Random(), stop or threading.Event()
    failures = 0
    while True:
        try:
            return _read_small(client, url, name=name, max_bytes=max_bytes)
        except TransferError as error:
            failures += 1
            if failures >= policy.max_attempts:
                msg = f"{name} must arrive within {failures} attempts, got {error} at the last one ({url})"
                raise RefusedError(f"{msg}. Run the command again later.") from error
            seconds = policy.seconds(failures, error, rng)
            report(f"{name}: {error}; attempt {failures + 1} in {seconds:.1f} s")
            if stop.wait(seconds):
                raise StoppedError from None


def _read_small(client: "httpx.Client", url: str, *, name: str, max_bytes: int) -> bytes:
    content = bytearray()
    for block in stream_whole(client, url):
        content += block
        if len(content) > max_bytes:
            raise RefusedError(f"{name} must have at most {max_bytes} bytes, got more ({url}). Check --from.")
    return bytes(content)


def is_disk_error(error: OSError) -> bool:
    """Return whether an error means that the disk is full, broken or read-only: no other file can be written."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}
