"""Ranges of bytes of a file on a web server, each answer compared with what was asked for.

Source:
    RFC 9110, sections 14 (range requests) and 10.2.3 (Retry-After).
"""

import contextlib
import email.utils
import random
import re
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

USER_AGENT = "luna_pipeline (research; https://luna16.grand-challenge.org data)"
# A connection that brings less over this time is given up: a byte now and then resets the time-out of httpx.
_SLOWEST_BYTES, _SLOWEST_SECONDS = 60 << 10, 60.0
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class TransferError(Exception):
    """A fault of one request that another attempt may not have.

    Attributes:
        retry_after_seconds: Seconds that the server asks to wait; None where it names none.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class RangesIgnoredError(Exception):
    """The server answers a request for a range with the whole file."""


class RefusedError(OSError):
    """An answer of the server that another attempt does not change."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and after which wait a failed request is repeated.

    Attributes:
        max_attempts: Attempts in a row without progress.
        base_seconds: Wait after the first failure; it doubles with each further one.
        max_seconds: Longest wait of its own accord.
        max_retry_after_seconds: Longest wait that a server may ask for; more is an error.
    """

    max_attempts: int = 6
    base_seconds: float = 0.5
    max_seconds: float = 60.0
    max_retry_after_seconds: float = 900.0

    def seconds(self, failures: int, error: TransferError, rng: random.Random) -> float:
        """Return the wait after ``failures`` failures in a row (from 1), with jitter.

        Raises:
            RefusedError: If the server asks for a longer wait than is allowed.
        """
        asked = error.retry_after_seconds
        if asked is None:
            return min(self.max_seconds, self.base_seconds * 2.0 ** (failures - 1)) * rng.uniform(0.5, 1.0)
        if asked > self.max_retry_after_seconds:
            msg = f"{error}; the wait must be at most {self.max_retry_after_seconds:.0f} s, got {asked:.0f} s"
            raise RefusedError(f"{msg} (Retry-After). Run the command again later.")
        # Later than asked, never earlier: many clients must not come back at the same moment.
        return asked + rng.uniform(0.0, 0.1) * max(asked, self.base_seconds)


def stream_range(client: "httpx.Client", url: str, start: int, stop: int, *, total: int) -> Iterator[bytes]:
    """Yield the bytes ``start`` to ``stop`` (exclusive) of a file in blocks of at most 64 KiB.

    Args:
        client: Connections of httpx.
        url: Address of the file.
        start: First byte.
        stop: The byte behind the last.
        total: Size of the file, which the answer must state too.

    Raises:
        TransferError: If the connection breaks, or the answer is short, long, for another range or a passing failure.
        RangesIgnoredError: If the answer is the whole file.
        RefusedError: If the answer is a lasting failure, or the file has another size.
    """
    with _answer(client, url, {"Range": f"bytes={start}-{stop - 1}"}) as response:
        if response.status_code == HTTPStatus.OK:
            raise RangesIgnoredError
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            raise TransferError(f"status {response.status_code} in place of 206")
        _check_content_range(response.headers.get("Content-Range", ""), start, stop, total)
        yield from _exactly(response, stop - start)


def stream_whole(client: "httpx.Client", url: str, *, total: int | None = None) -> Generator[bytes, None, None]:
    """Yield a whole file in blocks of at most 64 KiB.

    Raises:
        TransferError: If the connection breaks, or the answer is short, long or a passing failure.
        RefusedError: If the answer is a lasting failure.
    """
    with _answer(client, url, {}) as response:
        if response.status_code != HTTPStatus.OK:
            raise TransferError(f"status {response.status_code} in place of 200")
        if total is None:
            yield from _blocks(response)
        else:
            yield from _exactly(response, total)


@contextlib.contextmanager
def _answer(client: "httpx.Client", url: str, headers: dict[str, str]) -> "Iterator[httpx.Response]":
    """Open a response whose status is a success; errors of httpx are translated."""
    import httpx

    with contextlib.ExitStack() as stack:
        try:
            # Identity: a packed answer would have other bytes than the file.
            opened = client.stream("GET", url, headers={"Accept-Encoding": "identity", **headers})
            response = stack.enter_context(opened)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            msg = f"The address must be one of a web server, got {url} ({reason_of(error)}). Check --from."
            raise RefusedError(msg) from error
        except httpx.HTTPError as error:
            raise TransferError(reason_of(error)) from error
        _raise_for(response, url)
        yield response


def _raise_for(response: "httpx.Response", url: str) -> None:
    status = response.status_code
    is_packed = response.headers.get("Content-Encoding", "identity") != "identity"
    if status < HTTPStatus.BAD_REQUEST and not is_packed:
        return
    if status in _PASSING:
        raise TransferError(f"status {status}", retry_after(response.headers.get("Retry-After"), now=time.time()))
    got = f"status {status}" if status >= HTTPStatus.BAD_REQUEST else "packed bytes"
    raise RefusedError(f"The server must serve the file as it is, got {got} ({url}). Check --from.")


def retry_after(text: str | None, *, now: float) -> float | None:
    """Return the seconds of a Retry-After header, which holds seconds or a date; None without a valid one."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _check_content_range(text: str, start: int, stop: int, total: int) -> None:
    found = _CONTENT_RANGE.fullmatch(text.strip())
    if found is None or (int(found[1]), int(found[2])) != (start, stop - 1):
        raise TransferError(f"an answer for another range ({text[:60] or 'no Content-Range'})")
    if found[3] not in ("*", str(total)):
        msg = f"The server's file must have {total} bytes, got {found[3]}: another edition"
        raise RefusedError(f"{msg}. Check --from.")


def _exactly(response: "httpx.Response", num_bytes: int) -> Iterator[bytes]:
    announced = response.headers.get("Content-Length", str(num_bytes))
    if announced != str(num_bytes):
        raise TransferError(f"an answer of {announced[:20]} bytes in place of {num_bytes}")
    left = num_bytes
    for block in _blocks(response):
        if len(block) > left:
            # What arrived may belong to another place: none of this block is taken.
            raise TransferError(f"more than the {num_bytes} bytes asked for")
        left -= len(block)
        yield block
    if left:
        raise TransferError(f"the answer ended after {num_bytes - left} of {num_bytes} bytes")


def _blocks(response: "httpx.Response") -> Iterator[bytes]:
    import httpx

    since, num_bytes = time.monotonic(), 0
    try:
        for block in response.iter_raw():
            num_bytes += len(block)
            yield block
            if time.monotonic() - since >= _SLOWEST_SECONDS:
                if num_bytes < _SLOWEST_BYTES:
                    raise TransferError(f"only {num_bytes} bytes in {_SLOWEST_SECONDS:.0f} s")
                since, num_bytes = time.monotonic(), 0
    except httpx.HTTPError as error:
        raise TransferError(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Return an error of the connection in one line."""
    return " ".join(str(error).split()) or type(error).__name__
