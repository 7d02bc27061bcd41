"""Connections that break the protocol, are too large or too slow, and TLS: the receiver goes on answering others."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from luna_pipeline.serving.dicom import transport
from luna_pipeline_tests.processes import wait_for
from luna_pipeline_tests.serving.dicom.certificates import Authority
from luna_pipeline_tests.serving.dicom.pushing import Receiving, associated, images, push, receiving

ABORT = 0x07


def pdu(kind: int, content: bytes, *, length: int | None = None) -> bytes:
    """A PDU; PS3.8, 9.3.1."""
    return struct.pack(">BBL", kind, 0, len(content) if length is None else length) + content


def association_request(*, items: bytes = b"", version: int = 1) -> bytes:
    """An A-ASSOCIATE-RQ with the right titles; PS3.8, 9.3.2."""
    context = b"1.2.840.10008.3.1.1.1"
    application = struct.pack(">BBH", 0x10, 0, len(context)) + context
    titles = b"LUNA".ljust(16) + b"SCANNER".ljust(16)
    return pdu(0x01, struct.pack(">HH", version, 0) + titles + bytes(32) + application + items)


BROKEN = {
    "nothing": b"",
    "text": b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n",
    "unknown type": pdu(0x09, b"1234"),
    "zeros": bytes(200),
    "half a head": b"\x01\x00",
    "truncated request": association_request()[:40],
    "empty request": pdu(0x01, b""),
    "request of 4 GB": pdu(0x01, b"x", length=0xFFFFFFFF),
    "items of noise": association_request(items=b"\xde\xad\xbe\xef" * 30),
    "item longer than its request": association_request(items=struct.pack(">BBH", 0x20, 0, 0xFFFF) + b"x"),
    "user item of noise": association_request(items=struct.pack(">BBH", 0x50, 0, 4) + b"\xff\xff\xff\xff"),
    "data before a request": pdu(0x04, struct.pack(">LBB", 2, 1, 3)),
    "release before a request": pdu(0x05, bytes(4)),
    "two requests": association_request() * 2,
    "data of noise": association_request() + pdu(0x04, b"\x99" * 50),
    "data of no context": association_request() + pdu(0x04, struct.pack(">LBB", 6, 77, 3) + b"noise"),
    "data of 4 GB": association_request() + pdu(0x04, b"x", length=0xFFFFFFF0),
    "accept by the client": association_request() + pdu(0x02, bytes(68)),
}


@pytest.fixture(scope="module")
def luna(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiving]:
    with receiving(tmp_path_factory.mktemp("receiver")) as found:
        yield found


def echoes(port: int, **options) -> bool:
    with associated(port, **options) as association:
        return association.is_established and association.send_c_echo().Status == 0


def ended(connection: socket.socket, *, seconds: float = 5) -> bytes:
    """What is received until the other side ends the connection."""
    connection.settimeout(seconds)
    received = b""
    try:
        while part := connection.recv(4096):
            received += part
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pdus_end_their_own_connection_alone(luna: Receiving, name: str):
    before = psutil.Process().memory_info().rss
    with socket.create_connection(("127.0.0.1", luna.port)) as connection:
        connection.sendall(BROKEN[name])
        connection.shutdown(socket.SHUT_WR)
        ended(connection)
    assert echoes(luna.port)
    assert psutil.Process().memory_info().rss - before < 50 << 20
    assert luna.is_empty()


def test_a_pdu_that_is_too_long_ends_the_connection_at_its_head(luna: Receiving):
    with socket.create_connection(("127.0.0.1", luna.port)) as connection:
        connection.sendall(BROKEN["request of 4 GB"])
        begin = time.monotonic()
        ended(connection)
        assert time.monotonic() - begin < 2


def test_a_pdu_that_arrives_too_slowly_ends_the_connection(luna: Receiving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transport, "PDU_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", luna.port)) as connection:
        request = association_request()
        begin = time.monotonic()
        for byte in request:
            try:
                connection.sendall(bytes([byte]))
            except (BrokenPipeError, ConnectionResetError):
                break
            wait_for_byte = threading.Event()
            wait_for_byte.wait(0.05)
        assert time.monotonic() - begin < 2
    assert echoes(luna.port)


def test_an_instance_that_is_too_large_ends_its_association(luna: Receiving, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transport, "MAX_INSTANCE_BYTES", 600)
    (dataset,) = images(tmp_path, "1.2.3", number=1)
    with associated(luna.port) as association:
        assert "Status" not in association.send_c_store(dataset)
        wait_for(lambda: not association.is_established, limit_seconds=5, what="the end of the association")
    monkeypatch.undo()
    assert push(luna.port, [dataset]) == [0]


def test_silent_connections_do_not_keep_others_out(luna: Receiving):
    """More of them than associations are allowed."""
    silent = [socket.create_connection(("127.0.0.1", luna.port)) for _ in range(30)]
    try:
        assert echoes(luna.port)
    finally:
        for connection in silent:
            connection.close()


def test_connections_beyond_a_number_of_threads_are_ended_at_once(luna: Receiving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(luna.receiver._server, "_max_threads", 0)
    with socket.create_connection(("127.0.0.1", luna.port)) as connection:
        assert ended(connection) == b""
    monkeypatch.undo()
    assert echoes(luna.port)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_tls_by_certificate(tmp_path: Path, authority: Authority):
    certificate, key = authority.issue("receiver")
    files = {"certificate": str(certificate), "key": str(key), "authorities": str(authority.path)}
    with receiving(tmp_path / "luna", **files) as luna:
        with socket.create_connection(("127.0.0.1", luna.port)):
            # A client that shakes no hands.
            known = (authority.client("scanner"), "127.0.0.1")
            assert push(luna.port, images(tmp_path / "ct", "1.2.3"), tls=known) == [0] * 4
        assert luna.uids(luna.submitted()[0])
        for stranger in (authority.client(None), _trusting(authority, Authority(tmp_path / "other"))):
            assert not echoes(luna.port, tls=(stranger, "127.0.0.1"))
        assert not echoes(luna.port)
        assert echoes(luna.port, tls=known)


def _trusting(authority: Authority, other: Authority):
    """TLS settings of a client whose certificate is of another authority."""
    context = authority.client(None)
    context.load_cert_chain(*other.issue("stranger"))
    return context
