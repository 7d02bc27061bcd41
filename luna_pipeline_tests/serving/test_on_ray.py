"""The service on Ray Serve: equal answers from several processes, more of them under load."""

import contextlib
import io
import re
import shlex
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.on_ray import serve_on_ray
from luna_pipeline_tests.diagnosis_models import CHUNK_IRC
from luna_pipeline_tests.processes import REPOSITORY, free_port, started, wait_for
from luna_pipeline_tests.serving.services import Service, phantom_ct

RAY = {"min_replicas": 1, "max_replicas": 2, "requests_per_replica": 2, "cpus_per_replica": 0.5, "cpus_per_worker": 0.5}


@dataclass(frozen=True)
class Site:
    """`luna serve --on-ray` at work."""

    service: Service
    address: str
    process: psutil.Process

    def processes(self, name: str) -> list[psutil.Process]:
        """Living processes of Ray's with a name, and their children."""
        found = []
        for process in self.process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if name in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    @property
    def fronts(self) -> list[psutil.Process]:
        return self.processes("ray::ServeReplica:luna:front")

    def classify(self) -> requests.Response:
        content = io.BytesIO()
        np.savez(content, ct_chunks=np.full((4, *CHUNK_IRC), -500, np.int16))
        return requests.post(f"{self.address}/v1/classify", data=content.getvalue(), timeout=60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    service = Service(tmp_path_factory.mktemp("on_ray"), {"ray": RAY})
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    (line,) = re.findall("luna serve --on-ray .*", (REPOSITORY / "docs/how_to/scale.md").read_text())
    words = [str(service.config_path) if word == "serving.yaml" else word for word in shlex.split(line)]
    command = [*words, "--port", str(port)]
    log = service.root / "log.txt"
    with started(command, environment=service.environment, log=log) as process:
        wait_for(lambda: is_up(address), limit_seconds=200, what="The service's answer", every_seconds=0.5)
        yield Site(service, address, psutil.Process(process.pid))
        ray = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=90) == 0, log.read_text()[-2000:]
        _, left = psutil.wait_procs(ray, timeout=20)
        for process_left in left:
            process_left.kill()
        assert not left


def is_up(address: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{address}/ready", timeout=5).status_code == 200
    return False


@pytest.mark.slow
def test_a_ct_that_is_sent_is_diagnosed(site: Site):
    files = [("files", (path.name, path.read_bytes())) for path in phantom_ct(site.service.root, 5).iterdir()]
    sent = requests.post(f"{site.address}/v1/diagnoses", files=files, timeout=60)
    assert sent.status_code == 202
    place = f"{site.address}{sent.headers['Location']}"
    done = wait_for(
        lambda: (job := requests.get(place, timeout=30).json())["state"] == "done" and job,
        limit_seconds=90,
        what="The end of the job",
        every_seconds=0.3,
    )
    assert requests.get(f"{site.address}{done['results']['nodules.csv']}", timeout=30).text.startswith("seriesuid,")
    missing = requests.get(f"{site.address}/v1/nothing", timeout=30)
    assert (missing.status_code, list(missing.json())) == (404, ["detail"])


@pytest.mark.slow
def test_load_starts_another_process(site: Site):
    assert len(site.fronts) == 1
    is_over, answers, lock = threading.Event(), [], threading.Lock()

    def ask() -> None:
        while not is_over.is_set():
            answer = site.classify()
            with lock:
                answers.append(answer.status_code)

    with ThreadPoolExecutor(8) as pool:
        try:
            for _ in range(8):
                pool.submit(ask)
            wait_for(lambda: len(site.fronts) == 2, limit_seconds=120, what="A second process", every_seconds=0.5)
        finally:
            is_over.set()
    assert len(answers) > 8
    assert set(answers) == {200}


def test_other_machines_need_a_token_before_ray_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LUNA_SERVICE_DIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ValueError, match="must have a token, got none"):
        serve_on_ray(ServiceConfig(), host="0.0.0.0", port=8000)
