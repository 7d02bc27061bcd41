"""The web server: limits on the head of a request."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.http.run import run_service
from luna_pipeline.serving.http.server import MAX_HEADER_BYTES, server_of
from luna_pipeline.settings import Settings
from luna_pipeline_tests.processes import wait_for


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Port of a server whose request heads have 0.3 s."""
    app = FastAPI()

    @app.post("/refuses")
    def refuses() -> str:
        return "no"

    server = server_of(app, max_header_seconds=0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    wait_for(lambda: server.started, limit_seconds=10, what="start of the server")
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def _answer_to(port: int, *pieces: bytes, pause_seconds: float = 0.0) -> tuple[int, dict | str]:
    """Send pieces of a request; return status and JSON of the answer, and require that the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_seconds)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        while block := connection.recv(1 << 16):
            answer += block
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_headers_that_never_end_are_answered_and_closed(port: int):
    started = time.monotonic()
    trickle = [b"POST /refuses HTTP/1.1\r\nHost: a\r\n", *[b"X-A: b\r\n"] * 300]
    status, body = _answer_to(port, *trickle, pause_seconds=0.1)
    assert (status, body) == (408, {"detail": "Headers must be complete in 0.3 s, got a part. Send them faster."})
    assert 0.25 < time.monotonic() - started < 15


def test_a_connection_that_sends_nothing_is_closed(port: int):
    assert _answer_to(port)[0] == 408


def test_headers_without_a_limit_are_cut_off(port: int):
    line = b"X-A: " + b"b" * 1000 + b"\r\n"
    status, body = _answer_to(port, b"POST /refuses HTTP/1.1\r\n", *[line] * (4 * MAX_HEADER_BYTES // 1000))
    assert status == 400
    assert "at most 65536 bytes of headers" in body["detail"]


def test_what_is_no_http_is_answered(port: int):
    assert _answer_to(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n")[0] == 400


def test_the_rest_of_a_body_is_discarded_for_a_while_only(port: int):
    head = b"POST /refuses HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    started = time.monotonic()
    assert _answer_to(port, head, *[b"x"] * 600, pause_seconds=0.05) == (200, "no")
    assert 1.5 < time.monotonic() - started < 15


def test_a_port_that_is_taken_is_named(tmp_path: Path, port: int):
    settings = Settings.from_environment({"LUNA_SERVICE_DIR": str(tmp_path)})
    with pytest.raises(ValueError, match=rf"got: Address already in use \(127.0.0.1, port {port}\). Choose another"):
        run_service(settings, ServiceConfig(), host="127.0.0.1", port=port)


def test_other_machines_need_a_token(tmp_path: Path):
    settings = Settings.from_environment({"LUNA_SERVICE_DIR": str(tmp_path)})
    with pytest.raises(ValueError, match="must have a token, got none"):
        run_service(settings, ServiceConfig(), host="0.0.0.0", port=0)
