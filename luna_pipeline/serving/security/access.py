"""From where the service may be used: this machine alone, or other machines with a bearer token."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from luna_pipeline.serving.security.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Rules of one running service.

    Attributes:
        tokens: Its tokens.
        requires_token: Whether a request needs a token even without a file of tokens; with one it always does.
        hosts: Names that the Host header may have besides those of this machine; None allows any name.
    """

    tokens: Tokens
    requires_token: bool
    hosts: tuple[str, ...] | None = ()


def access_of(tokens: Tokens, *, host: str, allowed_hosts: Sequence[str] = ()) -> Access:
    """Return the rules for a service that listens on ``host``.

    On a loopback address without further names, web pages of other sites could reach the service by a DNS name of
    their own (DNS rebinding), so the Host header is checked. Elsewhere the token protects, and any name is right.

    Raises:
        ValueError: If other machines can reach it and there is no token.
    """
    is_reachable = not is_loopback(host) or bool(allowed_hosts)
    if is_reachable and not tokens.list():
        msg = f"A service that other machines can reach must have a token, got none (host {host})."
        raise ValueError(f"{msg} Add one with `luna token add NAME`, or listen on 127.0.0.1.")
    names = None if not is_loopback(host) and not allowed_hosts else tuple(name.lower() for name in allowed_hosts)
    return Access(tokens=tokens, requires_token=is_reachable, hosts=names)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's own: ``localhost``, ``127.0.0.0/8`` or ``::1``."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
