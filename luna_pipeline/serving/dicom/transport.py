"""Connections of pynetdicom with limits: sizes, durations, memory and number; TLS by certificate.

pynetdicom itself reads a PDU of any length, waits without limit for the rest of one, and shakes hands for TLS in the
thread that accepts connections, where one silent client would keep all others out.

Source:
    DICOM PS3.8, 9.3 (PDUs); PS3.15, B (TLS profiles).
"""

import errno
import logging
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from luna_pipeline.serving.config import ReceiverConfig

MAX_PDU_BYTES = 1 << 20
"""An association request with all 128 presentation contexts has less than 300 KiB."""
ANNOUNCED_PDU_BYTES = 128 << 10
"""Longest P-DATA PDU that the peer may send."""
PDU_SECONDS = 30.0
"""Time from the first to the last byte of a PDU, and for a TLS handshake."""
MAX_INSTANCE_BYTES = 1 << 30
"""Bytes of one instance; it is in memory until it is written."""
MAX_PENDING_BYTES = 2 << 30
"""Bytes of unwritten instances of all associations."""
REQUEST_SECONDS = 10.0
"""Time from a connection to its association request."""
# Each connection has two threads until its association ends.
_MAX_THREADS = 200
_REJECTED_FOR_NOW, _BY_PRESENTATION, _LIMIT_EXCEEDED = 0x02, 0x03, 0x02

_log = logging.getLogger(__name__)


class LimitedSocket(AssociationSocket):
    """Socket that ends the connection at the first limit exceeded.

    Attributes:
        num_pending_bytes: Bytes received since the last answered request.
    """

    num_pending_bytes = 0

    def recv(self, nr_bytes: int) -> bytearray:
        """Return the next bytes of a PDU, fewer if the connection ends.

        Raises:
            OSError: If a limit is exceeded; pynetdicom then aborts the association.
        """
        received = bytearray()
        deadline = time.monotonic() + PDU_SECONDS
        self._check(nr_bytes)
        connection = self.socket
        try:
            while connection is not None and len(received) < nr_bytes:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                part = connection.recv(min(nr_bytes - len(received), 1 << 16))
                if not part:
                    break
                received += part
        except OSError:
            self._shutdown_socket()
            raise
        self.num_pending_bytes += len(received)
        return received

    def _check(self, nr_bytes: int) -> None:
        if nr_bytes > MAX_PDU_BYTES:
            self._end("a PDU is too long")
        pending = self.num_pending_bytes + nr_bytes
        if pending > MAX_INSTANCE_BYTES:
            self._end("an instance is too large")
        # Of small instances all associations together stay below it.
        if pending > MAX_PENDING_BYTES // 32 and pending_bytes(_associations(self.assoc)) > MAX_PENDING_BYTES:
            self._end("all instances in memory are too large")

    def _end(self, reason: str) -> None:
        _log.warning("Connection ended: %s.", reason)
        self._shutdown_socket()
        raise OSError(errno.EMSGSIZE, reason)


def pending_bytes(associations: Iterable[Association]) -> int:
    """Return the bytes of unwritten instances of associations."""
    return sum(getattr(association.dul.socket, "num_pending_bytes", 0) for association in associations)


def request_answered(association: Association) -> None:
    """Count from 0 again, unless the peer has sent further requests without waiting for answers."""
    if association.dimse.msg_queue.empty() and isinstance(association.dul.socket, LimitedSocket):
        association.dul.socket.num_pending_bytes = 0


def _associations(association: Association) -> Iterable[Association]:
    return association._server.active_associations if association._server is not None else ()


class LimitedHandler(RequestHandler):
    """Gives each association a limited socket."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        # A second socket would announce the connection to the state machine a second time.
        association.dul.socket.__class__ = LimitedSocket
        return association


class LimitedServer(ThreadedAssociationServer):
    """Server that shakes hands in the connection's own thread, and ends connections beyond a number."""

    daemon_threads = True
    # Half-open connections that wait to be accepted.
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, request_handler=LimitedHandler)  # type: ignore[misc]
        self._max_threads = threading.active_count() + _MAX_THREADS
        # pynetdicom's own limit counts connections that have requested no association, or have ended.
        self._max_associations, self.ae.maximum_associations = self.ae.maximum_associations, _MAX_THREADS
        self.ae.acse_timeout = REQUEST_SECONDS
        self.bind(evt.EVT_REQUESTED, self._on_requested)
        self.bind(evt.EVT_CONN_CLOSE, _on_closed)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection without waiting for its handshake."""
        connection: Any
        connection, address = self.socket.accept()  # type: ignore[union-attr]
        connection.settimeout(PDU_SECONDS)
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether there are threads for another connection."""
        return threading.active_count() < self._max_threads

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, if TLS is used, and start the association."""
        if isinstance(request, ssl.SSLSocket):
            request.do_handshake()
        super().finish_request(request, client_address)

    def _on_requested(self, event: Any) -> None:
        num_established = sum(association.is_established for association in self.active_associations)
        if num_established >= self._max_associations:
            event.assoc.acse.send_reject(_REJECTED_FOR_NOW, _BY_PRESENTATION, _LIMIT_EXCEEDED)
            evt.trigger(event.assoc, evt.EVT_REJECTED, {})
            event.assoc.kill()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a connection failed before its association, without its address."""
        _log.warning("Connection ended before an association: no TLS handshake, or a broken one.")


def _on_closed(event: Any) -> None:
    """End the thread of a connection that was closed before its request, for which it would wait."""
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)


def server_tls(config: ReceiverConfig) -> ssl.SSLContext | None:
    """Return the TLS settings of the receiver, None without a certificate.

    Raises:
        OSError: If a file is missing or no PEM.
    """
    if not config.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.certificate, config.key or None)
    if config.authorities:
        context.load_verify_locations(config.authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(config: ReceiverConfig) -> ssl.SSLContext:
    """Return the TLS settings for peers: their certificates must be signed by ``authorities`` and name their host.

    Raises:
        OSError: If a file is missing or no PEM.
    """
    context = ssl.create_default_context(cafile=config.authorities or None)
    if config.certificate:
        context.load_cert_chain(config.certificate, config.key or None)
    return context
