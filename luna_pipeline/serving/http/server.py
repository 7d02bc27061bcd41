"""The web server: uvicorn with limits on the headers of a request."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_HEADER_BYTES = 64 << 10
MAX_CONNECTIONS = 200
_IDLE_SECONDS = 5
_DISCARD_FACTOR = 6
_SHUTDOWN_SECONDS = 30


def server_of(app: "FastAPI", *, max_header_seconds: float) -> uvicorn.Server:
    """Return a server that is not running yet; it is run on sockets that listen.

    Args:
        app: The application.
        max_header_seconds: Time after which a connection without a complete request head is closed.
    """
    config = uvicorn.Config(
        app,
        http=_protocol_with_limit(max_header_seconds),
        ws="none",
        # The default one is an optional package with another event loop per system.
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        # Headers that claim another client address are not believed.
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    return uvicorn.Server(config)


def _protocol_with_limit(seconds: float) -> type[asyncio.Protocol]:
    class LimitedProtocol(_HeadTimeout):
        max_header_seconds = seconds

    return LimitedProtocol


class _HeadTimeout(H11Protocol):
    """Closes connections whose request head is not complete in time; uvicorn waits without an end.

    The rest of a body whose request has been answered already is discarded for a limited time: many clients read an
    answer only after they have sent everything.
    """

    max_header_seconds: float

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._timer: asyncio.TimerHandle | None = None
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE:
            self._start_timer()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE and not self._discards_a_body():
            self._stop_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._discards_a_body():
            self._start_timer(_DISCARD_FACTOR * self.max_header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or too long a head; uvicorn's own answer is not JSON."""
        self._answer(400, f"A request must be HTTP with at most {MAX_HEADER_BYTES} bytes of headers, got another.")

    def _discards_a_body(self) -> bool:
        return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

    def _start_timer(self, seconds: float | None = None) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds or self.max_header_seconds, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._answer(408, f"Headers must be complete in {self.max_header_seconds:g} s, got a part. Send them faster.")

    def _answer(self, status: int, detail: str) -> None:
        # An answer may be complete or under way.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"detail": detail}).encode()
            headers: list[Any] = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
