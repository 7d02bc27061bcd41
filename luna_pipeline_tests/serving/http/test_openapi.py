"""The OpenAPI description and the application agree: schemathesis sends what it allows and what it does not."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from luna_pipeline.serving.http.server import server_of
from luna_pipeline_tests.processes import wait_for
from luna_pipeline_tests.serving.http.apps import client_of, files_below
from luna_pipeline_tests.serving.services import Service

# Random bytes are no CT and no cutouts, and random ids none of a diagnosis.
CONFIG = '[checks.positive_data_acceptance]\nexpected-statuses = ["2xx", 400, 404, 409, 413, 415, 422, 429]\n'
# Made by one function, as nodules.json is.
SAME_AS_OTHERS = r"(csv|html|png|sr\.dcm)$"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(tmp_path_factory.mktemp("openapi"))


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with client_of(service) as client:
        yield client


@pytest.fixture(scope="module")
def address(client: TestClient) -> Iterator[str]:
    """Address of the application on the real server."""
    server = server_of(client.app, max_header_seconds=5)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    wait_for(lambda: server.started, limit_seconds=10, what="start of the server")
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.slow
def test_every_answer_is_as_described(service: Service, address: str, tmp_path: Path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    program = Path(sys.executable).with_name("schemathesis")
    options = ["--checks=all", "--max-examples=5", "--seed=1", "--no-color", f"--exclude-path-regex={SAME_AS_OTHERS}"]
    done = subprocess.run(
        [program, "--config-file=schemathesis.toml", "run", f"{address}/openapi.json", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "13 selected / 18 total" in done.stdout
    assert files_below(service.folders.staging) == []


def test_a_place_with_two_methods_names_both(client: TestClient):
    assert client.put("/v1/diagnoses").headers["allow"] == "GET, POST"


def test_the_page_of_the_description_names_every_route_and_loads_nothing_from_elsewhere(client: TestClient):
    answer = client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for place in client.get("/openapi.json").json()["paths"]:
        assert f" {place}</code></h2>" in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "<script" not in answer.text
