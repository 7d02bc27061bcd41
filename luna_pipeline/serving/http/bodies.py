"""Bodies of requests, read with limits on their bytes, duration and rate."""

import asyncio
import time
from collections.abc import AsyncIterator

from fastapi import Request

from luna_pipeline.serving.config import UploadLimits
from luna_pipeline.serving.http.problems import Problem

_GRACE_SECONDS = 10.0


async def limited_body(request: Request, limits: UploadLimits, *, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the blocks of a body as they arrive.

    Args:
        request: A request whose body has not been read.
        limits: Duration and rate.
        max_bytes: Bytes of the body.

    Raises:
        Problem: 413 for more bytes, announced or sent; 408 for a body that takes too long or arrives too slowly.
        ClientDisconnect: If the client closes the connection.
    """
    _check_announced(request, max_bytes)
    started, num_bytes = time.monotonic(), 0
    blocks = request.stream()
    while True:
        seconds = time.monotonic() - started
        # An average that is too low after the first seconds never gets better without another block in time.
        allowed = min(limits.max_seconds, max(_GRACE_SECONDS, num_bytes / limits.min_bytes_per_second)) - seconds
        try:
            async with asyncio.timeout(allowed):
                block = await anext(blocks, b"")
        except TimeoutError:
            raise _too_slow(limits) from None
        if not block:
            return
        num_bytes += len(block)
        if num_bytes > max_bytes:
            raise _too_long(max_bytes)
        yield block


async def whole_body(request: Request, limits: UploadLimits, *, max_bytes: int) -> bytes:
    """Return a body that fits into memory.

    Raises:
        Problem: As ``limited_body``.
        ClientDisconnect: If the client closes the connection.
    """
    blocks = [block async for block in limited_body(request, limits, max_bytes=max_bytes)]
    return b"".join(blocks)


def _check_announced(request: Request, max_bytes: int) -> None:
    """Refuse a body by its announced length, before any of it is read."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > max_bytes:
        raise _too_long(max_bytes)


def _too_long(max_bytes: int) -> Problem:
    detail = f"The body must have at most {max_bytes} bytes, got more. Send less, or raise the service's limit."
    return Problem(413, detail)


def _too_slow(limits: UploadLimits) -> Problem:
    rule = f"The body must arrive in {limits.max_seconds:g} s with {limits.min_bytes_per_second:g} bytes per second"
    return Problem(408, f"{rule}, got a slower one. Send it again over a faster connection.", {"Connection": "close"})
