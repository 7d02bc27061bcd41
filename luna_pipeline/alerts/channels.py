"""Channels on which alerts are sent: a JSON webhook, and every address that apprise understands.

Addresses contain passwords and tokens. No error, log line or record contains one: a channel is named by its setting and
number, and a failure by a status code or a phrase of a fixed list.
"""

import hashlib
import json
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from luna_pipeline.alerts.content import Message

if TYPE_CHECKING:
    import apprise

URLS, WEBHOOK, MAIL_TO = "LUNA_ALERT_URLS", "LUNA_ALERT_WEBHOOK", "LUNA_ALERT_MAIL_TO"
TIMEOUT_SECONDS = 10.0
"""Limit of each wait for a receiver: connecting, sending, its answer."""
LETTERS_PER_RUN = 120
"""Upper limit of the letters by which a message names a run; job names are not longer than some 80."""
MAX_RUNS = 200
_REASONS = re.compile(
    r"error=\d{3}|\(\d{3}, b|timed out|Connection refused|STARTTLS|certificate verify failed|"
    r"Name or service not known|name resolution|unreachable|closed|reset by peer",
    re.IGNORECASE,
)
_said: ContextVar[list[str] | None] = ContextVar("said", default=None)


class ChannelError(RuntimeError):
    """A receiver did not take a message; says why, without the address."""


@dataclass(frozen=True)
class Channel:
    """One receiver.

    Attributes:
        name: The setting that names it, and its number there.
        key: Digest of its address, under which runs are recorded as reported to it.
        max_runs: Largest number of runs that one message to it names.
        send: Sends a message; raises ``ChannelError``.
    """

    name: str
    key: str
    max_runs: int
    send: Callable[[Message], None]


@dataclass(frozen=True)
class Channels:
    """The channels of an environment, and what is wrong with its settings, by setting."""

    usable: list[Channel]
    problems: list[str]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Channels":
        """Read ``LUNA_ALERT_URLS`` and the settings of webhook and mail, by default from the process's environment."""
        values = os.environ if environment is None else environment
        channels: dict[str, Channel] = {}
        problems = []
        for name, address in _addresses(values):
            try:
                made = _webhook(name, address) if name == WEBHOOK else list(_services(name, address))
            except ValueError as error:
                problems.append(str(error))
            else:
                # An address that is given twice is one channel.
                channels |= {channel.key: channel for channel in made if channel.key not in channels}
        return cls(list(channels.values()), problems)


def _addresses(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield name and address of each receiver; mail settings are translated into addresses of apprise."""
    if webhook := values.get(WEBHOOK, "").strip():
        yield WEBHOOK, webhook
    receivers = [one.strip() for one in values.get(MAIL_TO, "").split(",") if one.strip()]
    for number, receiver in enumerate(receivers, start=1):
        yield f"{MAIL_TO} {number}", _mail_address(values, receiver, sender=receivers[0])
    # A comma is also part of addresses; it separates two where a scheme follows.
    urls = re.split(r"\s*\n\s*|[,\s]+(?=[A-Za-z][\w+.-]*://)", values.get(URLS, ""))
    for number, url in enumerate((url.strip(" ,\t\r") for url in urls if url.strip(" ,\t\r")), start=1):
        yield f"{URLS} {number}", url


def _mail_address(values: Mapping[str, str], receiver: str, *, sender: str) -> str:
    """Return apprise's address of the mail settings: STARTTLS if there is a user, else without encryption."""
    user, host = values.get("LUNA_SMTP_USER", ""), values.get("LUNA_SMTP_HOST") or "127.0.0.1"
    port = values.get("LUNA_SMTP_PORT") or ("587" if user else "25")
    login = f"{quote(user, safe='')}:{quote(values.get('LUNA_SMTP_PASSWORD', ''), safe='')}@" if user else ""
    origin = quote(_qualified(values.get("LUNA_ALERT_MAIL_FROM") or sender), safe="")
    query = f"from={origin}&to={quote(_qualified(receiver), safe='')}&smtp={quote(host, safe='')}&format=text"
    scheme, mode = ("mailtos", "starttls") if user else ("mailto", "insecure")
    # `smtp` is the host. In its place stands a name that is always valid, unlike an IPv6 address or `mail_server`.
    return f"{scheme}://{login}localhost:{port}/?{query}&mode={mode}"


def _qualified(mail_address: str) -> str:
    """Return an address of apprise's form; names without a host are users of the mail server, for example root."""
    return mail_address if "@" in mail_address else f"{mail_address}@localhost"


def _key(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:12]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the alert, and count as sent."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _webhook(name: str, address: str) -> list[Channel]:
    """Return the channel that posts JSON: apprise's own JSON has no lists and other members than programs read."""
    if not re.match(r"https?://[^/\s]+", address) or not address.isascii() or re.search(r"\s", address):
        msg = f"{name} must be an http or https address, got another. Set it again."
        raise ValueError(msg)

    def send(message: Message) -> None:
        # Chat programs show `text`; the other members are for programs.
        content = json.dumps(message.members).encode()
        request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
        try:
            urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS).close()
        except urllib.error.HTTPError as error:
            msg = f"HTTP {error.code}"
            raise ChannelError(msg) from None
        except Exception as error:
            raise ChannelError(_reason([str(error)], type(error).__name__)) from None

    return [Channel(name, _key(address), MAX_RUNS, send)]


def _services(name: str, address: str) -> Iterator[Channel]:
    """Yield a channel for each receiver of an address of apprise, so that each has records of its own.

    Raises:
        ValueError: If apprise does not understand it.
    """
    for number, service in enumerate(_each_receiver(name, address)):
        # Limits of the time within a tick: the sensor itself tries again. A redirected POST would lose its content.
        service.retry, service.redirects = 0, False
        service.request_rate_per_sec = 0
        service.socket_connect_timeout = service.socket_read_timeout = TIMEOUT_SECONDS
        if "overflow=" not in address:
            service.overflow_mode = _apprise().OverflowMode.TRUNCATE
        max_runs = max(1, min(MAX_RUNS, service.body_maxlen // LETTERS_PER_RUN))
        key = _key(address) if number == 0 else _key(f"{address} {number}")
        yield Channel(name, key, max_runs, _sender(service))


def _each_receiver(name: str, address: str) -> list["apprise.NotifyBase"]:
    apprise = _apprise()
    service = apprise.Apprise.instantiate(address, asset=_asset(), suppress_exceptions=True)
    targets = getattr(service, "targets", None)
    # Of several receivers, apprise drops those that it does not understand.
    is_mail_to_none = "to=" in address and targets == []
    is_wrong_port = re.search(r"^mailtos?://[^/?]*:(?!\d+/)[^/?@]*/\?", address)
    if service is None or is_mail_to_none or is_wrong_port:
        parts = " with LUNA_SMTP_HOST and LUNA_SMTP_PORT" if name.startswith(MAIL_TO) else ""
        msg = f"{name}{parts} must be an address that apprise understands, got another. Correct it, "
        msg += "see docs/how_to/unattended.md."
        raise ValueError(msg)
    if not isinstance(targets, list) or len(targets) < 2:
        return [service]
    services = [apprise.Apprise.instantiate(address, asset=_asset()) for _ in targets]
    for one, target in zip(services, targets, strict=True):
        one.targets = [target]
    return services


def _sender(service: "apprise.NotifyBase") -> Callable[[Message], None]:
    def send(message: Message) -> None:
        apprise = _apprise()
        sending = apprise.Apprise(asset=_asset())
        sending.add(service)
        said: list[str] = []
        token = _said.set(said)
        kind, form = apprise.NotifyType.FAILURE, apprise.NotifyFormat.TEXT
        try:
            taken = sending.notify(title=message.title, body=message.text, notify_type=kind, body_format=form)
        except Exception as error:
            raise ChannelError(_reason([*said, str(error)], type(error).__name__)) from None
        finally:
            _said.reset(token)
        if not taken:
            raise ChannelError(_reason(said, "not taken"))

    return send


def _reason(said: list[str], otherwise: str) -> str:
    """Return the known phrases in messages; the messages themselves may contain addresses."""
    phrases = dict.fromkeys(phrase for text in said for phrase in _REASONS.findall(text))
    return ", ".join(phrases) or otherwise


def _asset() -> "apprise.AppriseAsset":
    import apprise

    return apprise.AppriseAsset(app_id="luna_pipeline", app_desc="luna_pipeline")


class _Listener(logging.Handler):
    """Keeps what apprise logs while a message is sent; nothing of it is printed."""

    def emit(self, record: logging.LogRecord) -> None:
        if (said := _said.get()) is not None:
            said.append(record.getMessage())


def _apprise() -> Any:
    """Return apprise, whose log goes nowhere: it quotes tokens of addresses that it refuses."""
    logger = logging.getLogger("apprise")
    if not any(isinstance(handler, _Listener) for handler in logger.handlers):
        logger.addHandler(_Listener())
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        # Its debug lines quote the paths of addresses.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
    import apprise

    return apprise
