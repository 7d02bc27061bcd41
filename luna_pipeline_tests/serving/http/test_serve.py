"""`luna serve` as processes: the commands of docs/serving.md, clients that are slow or gone, and its end."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest

from luna_pipeline import cli
from luna_pipeline_tests.processes import REPOSITORY, free_port, session_of, started, wait_for
from luna_pipeline_tests.serving.http.apps import PATIENT, files_below, parts_of, zipped_series
from luna_pipeline_tests.serving.services import Service

PAGE = (REPOSITORY / "docs/serving.md").read_text()
SLOW = {"limits": {"max_seconds": 12.0, "max_header_seconds": 2.0, "min_bytes_per_second": 1000.0}}
HEAD = b"POST /v1/diagnoses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.mha"\r\n\r\n'


def test_the_routes_and_limits_on_the_page_are_those_of_the_service(tmp_path: Path):
    from luna_pipeline_tests.serving.http.apps import client_of

    with client_of(Service(tmp_path)) as client:
        paths = client.get("/openapi.json").json()["paths"]
    named = set(re.findall(r"`(?:GET|POST|DELETE) (/[^`]*)`", PAGE))
    folder = "/v1/diagnoses/{job_id}/"
    named |= {folder + name for name in re.findall(r"`((?:nodules|sr|montage|lungs)\.[a-z]+)`", PAGE)}
    assert named == {place for place in paths if "/slices" not in place and "/volume" not in place}
    assert set(re.findall(r"^luna ([a-z_]+)", PAGE, re.MULTILINE)) <= set(cli.cli.commands)


@pytest.mark.slow
def test_the_commands_of_the_page_run_as_they_stand_there(tmp_path: Path):
    service = Service(tmp_path)
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    search = f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", block.replace("8000", str(free_port()))],
        cwd=tmp_path,
        env={"PATH": search, "HOME": str(tmp_path), **service.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr + (tmp_path / "serve.log").read_text()
    assert "number,probability" in done.stdout.replace("series_instance_uid,", "") or "probability" in done.stdout
    assert "Synthetic" in (tmp_path / "report.html").read_text()
    assert pydicom.dcmread(tmp_path / "seg.dcm").Modality == "SEG"
    assert files_below(service.folders.jobs) == []


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(tmp_path_factory.mktemp("serve"), {"num_workers": 1, **SLOW})


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
    assert PATIENT not in log.read_text()
    assert files_below(service.folders.staging) == []


@pytest.mark.slow
def test_results_have_their_media_types_and_names(service: Service, port: int):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        files = parts_of((f"{PATIENT}.zip", zipped_series(service.root / "phantoms")))
        place = client.post("/v1/diagnoses", files=files).headers["location"]
        ended = wait_for(
            lambda: (job := client.get(place).json())["state"] in {"done", "failed"} and job,
            limit_seconds=120,
            what="the diagnosis",
            every_seconds=0.5,
        )
        assert (ended["state"], ended["reason"]) == ("done", None)
        kinds = {}
        for name, address in ended["results"].items():
            answer = client.get(address)
            assert f'filename="{ended["id"]}-{name}"' in answer.headers["content-disposition"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            kinds[name] = answer.headers["content-type"].partition(";")[0]
        report = client.get(ended["results"]["report.html"]).headers["content-security-policy"]
    assert kinds == {
        "nodules.json": "application/json",
        "nodules.csv": "text/csv",
        "report.html": "text/html",
        "montage.png": "image/png",
        "lungs.png": "image/png",
        "seg.dcm": "application/dicom",
        "sr.dcm": "application/dicom",
    }
    assert report.startswith("sandbox; default-src 'none'")


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
        answer = connection.recv(1 << 16)
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
