"""`luna serve` as processes: the commands of docs/how_to/serve.md, clients that are slow or gone, and its end."""

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest

from luna_pipeline import cli
from luna_pipeline_tests.processes import REPOSITORY, free_port, session_of, started, wait_for
from luna_pipeline_tests.serving.http.apps import client_of, files_below
from luna_pipeline_tests.serving.services import Service

PAGE = (REPOSITORY / "docs/how_to/serve.md").read_text()
SLOW = {"limits": {"max_seconds": 12.0, "max_header_seconds": 2.0, "min_bytes_per_second": 1000.0}}
HEAD = b"POST /v1/diagnoses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
KINDS = {
    "nodules.json": "application/json",
    "nodules.csv": "text/csv",
    "report.html": "text/html",
    "montage.png": "image/png",
    "lungs.png": "image/png",
    "seg.dcm": "application/dicom",
    "sr.dcm": "application/dicom",
}
PART = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.mha"\r\n\r\n'


def test_the_routes_and_limits_on_the_page_are_those_of_the_service(tmp_path: Path):
    with client_of(Service(tmp_path)) as client:
        paths = client.get("/openapi.json").json()["paths"]
    named = set(re.findall(r"`(?:GET|POST|DELETE) (/[^`]*)`", PAGE))
    folder = "/v1/diagnoses/{job_id}/"
    named |= {folder + name for name in re.findall(r"`((?:nodules|sr|montage|lungs)\.[a-z]+)`", PAGE)}
    assert named == set(paths)
    assert set(re.findall(r"^luna ([a-z_]+)", PAGE, re.MULTILINE)) <= set(cli.cli.commands)


@pytest.mark.slow
def test_the_commands_of_the_page_run_as_they_stand_there(tmp_path: Path):
    service, log = Service(tmp_path), tmp_path / "commands.log"
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    # Before the diagnosis is deleted: each result with its headers.
    fetch = f"for name in {' '.join(KINDS)}; do curl -sSf -D $name.headers -o $name $place/$id/$name; done\n"
    block = block.replace("curl -sSf -X DELETE", f"{fetch}curl -sSf -X DELETE").replace("8000", str(free_port()))
    with started(["bash", "-e", "-c", f"cd {tmp_path}\n{block}"], environment=service.environment, log=log) as process:
        assert process.wait(240) == 0, log.read_text() + (tmp_path / "serve.log").read_text()
        assert session_of(process.pid) == []
    report = (tmp_path / "report.html").read_text()
    assert "Research use only" in report
    assert "Synthetic" in report
    assert pydicom.dcmread(tmp_path / "seg.dcm").Modality == "SEG"
    assert files_below(service.folders.jobs) == []
    (job_id,) = re.findall(r'"id":"([0-9a-f]{32})"', (tmp_path / "accepted.json").read_text())
    for name, kind in KINDS.items():
        headers = (tmp_path / f"{name}.headers").read_text().lower()
        assert f"content-type: {kind}" in headers
        assert f'filename="{job_id}-{name}"' in headers
    assert "content-security-policy: sandbox; default-src 'none'" in (tmp_path / "report.html.headers").read_text()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(tmp_path_factory.mktemp("serve"), SLOW)


@pytest.fixture(scope="module")
def port(service: Service) -> Iterator[int]:
    """Port of a service that runs; it ends by SIGTERM without an error and leaves no process."""
    log = service.root / "serve.log"
    command = ["luna", "serve", "--config", str(service.config_path), "--port", "0"]
    with started(command, environment=service.environment, log=log) as process:
        found = wait_for(
            lambda: re.search(r"Listening on http://127.0.0.1:(\d+)\.", log.read_text()),
            limit_seconds=120,
            what="the start of the service",
        )
        yield int(found[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
        assert session_of(process.pid) == []
    assert files_below(service.folders.staging) == []


def _staged(service: Service) -> list[str]:
    return files_below(service.folders.staging)


@pytest.mark.slow
def test_a_client_that_is_gone_in_the_middle_leaves_nothing(service: Service, port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(HEAD + b"Content-Length: 9000000\r\n\r\n" + PART + b"x" * 4_000_000)
        wait_for(lambda: _staged(service), limit_seconds=30, what="the beginning of the upload")
    wait_for(lambda: not _staged(service), limit_seconds=30, what="the removal of the upload")
    assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200


@pytest.mark.slow
def test_a_client_that_stops_sending_is_answered_and_leaves_nothing(service: Service, port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(HEAD + b"Content-Length: 9000000\r\n\r\n" + PART + b"x" * 2000)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"got a slower one" in answer
    assert _staged(service) == []


@pytest.mark.slow
def test_many_clients_with_slow_headers_stop_no_other(port: int):
    slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(100)]
    try:
        for connection in slow:
            connection.sendall(b"POST /v1/diagnoses HTTP/1.1\r\nX-A: ")
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200
        assert all(connection.recv(1 << 12).startswith(b"HTTP/1.1 408") for connection in slow)
    finally:
        for connection in slow:
            connection.close()
