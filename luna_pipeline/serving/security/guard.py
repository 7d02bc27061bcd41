"""Checks of each HTTP request before its body is read, and headers of each answer.

Source:
    RFC 6750 (bearer tokens), RFC 9110, 7.2 (Host), Fetch standard (Origin), CSP level 3.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from luna_pipeline.serving.security.access import Access, is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Results stay on no disk of a shared computer.
    "cache-control": "no-store",
}
"""Headers of each answer that does not set them itself."""

PUBLIC = frozenset({"/", "/health", "/ready", "/docs", "/openapi.json"})
"""Paths without a token: the empty page, which asks for it, the state of the service, and its description."""
PUBLIC_FOLDERS = ("/page/",)
"""Starts of further paths without a token: the script and the style of the page."""

_log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request is refused.

    Attributes:
        status: HTTP status.
        reason: Word for metrics: ``host``, ``origin``, ``token`` or ``tokens_file``.
        headers: Headers of the answer.
    """

    def __init__(self, status: int, reason: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.reason, self.headers = status, reason, headers or {}


class Guard:
    """ASGI application around the service: refuses what ``Access`` does not allow, before a body is read.

    An unexpected error is logged with its place, without its text, which may hold something of a patient.
    """

    def __init__(self, app: App, access: Access, *, on_refusal: Callable[[str], None] = lambda reason: None) -> None:
        """Wrap an application; ``on_refusal`` gets the reason of each refusal."""
        self._app, self._access, self._on_refusal = app, access, on_refusal

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Check a request, and answer it or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # A closed connection is the answer to a WebSocket: the service has none.
            return
        protected = _Protected(send)
        try:
            check_request(self._access, scope)
        except Refusal as refusal:
            self._on_refusal(refusal.reason)
            await protected.answer(refusal.status, str(refusal), refusal.headers)
            return
        try:
            await self._app(scope, receive, protected)
        except Exception:
            _log.exception("A request ended with an unexpected error.")
            if protected.has_begun:
                raise
            await protected.answer(500, "The service must answer, got an unexpected error. Its log has the place.", {})


class _Protected:
    """Sends an answer with the headers that protect it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            given = {name.lower() for name, _ in message.get("headers", ())}
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)

    async def answer(self, status: int, detail: str, headers: dict[str, str]) -> None:
        body = json.dumps({"detail": detail}).encode()
        # The body of the request is not read: the connection cannot be used again.
        sent = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"} | headers
        pairs = [(name.encode(), value.encode()) for name, value in sent.items()]
        await self({"type": "http.response.start", "status": status, "headers": pairs})
        await self({"type": "http.response.body", "body": body})


def check_request(access: Access, scope: Message) -> None:
    """Check host, origin and token of a request.

    Raises:
        Refusal: If one of them is not allowed; nothing that the request holds is repeated.
    """
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    _check_host(access, _all(headers, b"host"))
    _check_origin(access, _all(headers, b"origin"), _all(headers, b"host"))
    if scope["path"] not in PUBLIC and not scope["path"].startswith(PUBLIC_FOLDERS):
        _check_token(access, _all(headers, b"authorization"))


def _all(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]


def _check_host(access: Access, hosts: list[str]) -> None:
    if len(hosts) != 1:
        raise Refusal(400, "host", f"A request must have one Host header, got {len(hosts)}. Send one.")
    if access.hosts is not None and not _is_ours(access, hosts[0]):
        rule = "The Host header must name this machine, got another name."
        raise Refusal(421, "host", f"{rule} Use 127.0.0.1, or add the name to `allowed_hosts`.")


def _check_origin(access: Access, origins: list[str], hosts: list[str]) -> None:
    """Refuse requests that a page of another site makes in a user's browser."""
    for origin in origins:
        site = origin.partition("://")[2].lower()
        if not site or (site != hosts[0].lower() and site not in (access.hosts or ())):
            rule = "The Origin of a request must be the service's own page, got another site."
            raise Refusal(403, "origin", f"{rule} Open the page of the service.")


def _is_ours(access: Access, host: str) -> bool:
    name = host.lower()
    bare = name.partition("]")[0].lstrip("[") if name.startswith("[") else name.partition(":")[0]
    return is_loopback(bare) or name in (access.hosts or ()) or bare in (access.hosts or ())


def _check_token(access: Access, authorizations: list[str]) -> None:
    try:
        if not access.requires_token and not access.tokens.has_file():
            return
        scheme, _, secret = (authorizations[0] if len(authorizations) == 1 else "").partition(" ")
        is_known = scheme.lower() == "bearer" and access.tokens.name_of(secret.strip()) is not None
    except (OSError, ValueError) as error:
        _log.error("The file of tokens cannot be read: %s. All requests are refused.", type(error).__name__)
        rule = "The service must be able to check tokens, got a damaged file of tokens."
        raise Refusal(503, "tokens_file", f"{rule} Its operator must add the tokens again.") from error
    if not is_known:
        got = "none" if not authorizations else "another one"
        rule = f"A request must have the token of this service, got {got}."
        headers = {"www-authenticate": 'Bearer realm="luna"'}
        raise Refusal(401, "token", f"{rule} Send `Authorization: Bearer TOKEN`.", headers)
