"""Routes of the loaded models: cutouts in, probabilities out, every refusal one sentence."""

import contextlib
import io
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest

from luna_pipeline.serving import cutout_classifier
from luna_pipeline.serving.config import ServiceConfig, UploadLimits
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.http import classify
from luna_pipeline.serving.http.app import create_app
from luna_pipeline.serving.http.classify import BodyBudget
from luna_pipeline.serving.http.problems import Problem
from luna_pipeline.serving.http.server import server_of
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline.serving.loaded_models import LoadedModels
from luna_pipeline.settings import Settings
from luna_pipeline_tests.diagnosis_models import CHUNK_IRC, save_models
from luna_pipeline_tests.processes import wait_for

PAGE = Path(__file__).resolve().parents[3] / "docs/how_to/export.md"
CONFIG = ServiceConfig(limits=UploadLimits(max_cutouts=20))


def settings_of(root: Path) -> Settings:
    return Settings.from_environment({"LUNA_HOME": str(root / "home"), "LUNA_DATA_DIR": str(root / "data")})


@contextlib.contextmanager
def client_of(root: Path) -> Iterator[httpx.Client]:
    """A client of a service that runs in a thread."""
    folders = ServiceFolders(root / "service")
    folders.root.mkdir()
    jobs, listener = Jobs(folders, CONFIG), socket.create_server(("127.0.0.1", 0))
    server = server_of(create_app(settings_of(root), CONFIG, folders, jobs), max_header_seconds=5)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_for(lambda: server.started, limit_seconds=20, what="start of the server")
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        jobs.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("classify")
    save_models(root / "home")
    with client_of(root) as client:
        yield client


def npz(count: int, seed: int = 0) -> bytes:
    file = io.BytesIO()
    chunks = np.random.default_rng(seed).integers(-1000, 1001, (count, *CHUNK_IRC), dtype=np.int16)
    np.savez_compressed(file, ct_chunks=chunks)
    return file.getvalue()


def test_the_loaded_models_are_listed(client: httpx.Client):
    models = client.get("/v1/models").json()
    assert [(model["role"], model["name"], model["version"]) for model in models] == [
        ("segmenter", "nodule_segmenter", "0.0.1"),
        ("classifier", "nodule_classifier", "0.0.1"),
        ("malignancy", "malignancy_classifier", "0.0.1"),
    ]
    assert [model["chunk_shape_irc"] for model in models] == [None, [8, 8, 8], [8, 8, 8]]
    assert all(len(model["weights_sha256"]) == 64 for model in models)


def test_cutouts_are_classified_and_the_answer_names_its_model(client: httpx.Client):
    answer = client.post("/v1/classify", content=npz(3))
    body = answer.json()
    assert answer.status_code == 200
    assert len(body["scores"]) == len(body["probabilities"]) == 3
    assert body["model"] == client.get("/v1/models").json()[1]
    assert body["notice"] == "Research use only; not a medical device."


def test_the_program_of_the_page_runs(client: httpx.Client):
    program = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]
    names: dict[str, list[float]] = {}
    exec(program.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/")), names)
    assert len(names["probabilities"]) == 4


def test_concurrent_requests_get_the_answers_that_they_get_alone(client: httpx.Client):
    bodies = [npz(1 + number % 4, seed=number) for number in range(12)]
    alone = [client.post("/v1/classify", content=body).json()["scores"] for body in bodies]
    with ThreadPoolExecutor(6) as pool:
        together = [
            it.json()["scores"] for it in pool.map(lambda body: client.post("/v1/classify", content=body), bodies)
        ]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 422, "got a damaged, larger or other file"),
        (b"x" * 100, 422, "got a damaged, larger or other file"),
        (npz(3)[:-9], 422, "got a damaged, larger or other file"),
        (npz(21), 422, "with N from 1 to 20, got int16 (21, 8, 8, 8)"),
        (b"x" * 100_000, 413, "The body must have at most 86016 bytes"),
    ],
)
def test_what_is_refused_is_one_sentence_of_json(client: httpx.Client, content: bytes, status: int, words: str):
    answer = client.post("/v1/classify", content=content)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert set(answer.json()) == {"detail"}


def test_a_body_without_an_announced_length_is_limited_too(client: httpx.Client):
    answer = client.post("/v1/classify", content=(b"x" * 10_000 for _ in range(10)))
    assert answer.status_code == 413
    assert client.post("/v1/classify", content=iter([npz(2)])).status_code == 200


def test_without_models_the_answer_is_503_until_there_are_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(classify, "LoadedModels", partial(LoadedModels, look_seconds=0))
    with client_of(tmp_path) as client:
        for answer in (client.get("/v1/models"), client.post("/v1/classify", content=npz(1))):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
            assert str(tmp_path) not in answer.text
        save_models(tmp_path / "home")
        assert client.post("/v1/classify", content=npz(1)).status_code == 200


def test_a_model_of_another_role_is_answered_with_503(tmp_path: Path):
    save_models(tmp_path / "home")
    checkpoints = tmp_path / "home/checkpoints"
    shutil.copy(checkpoints / "malignancy_classifier/0.0.1/best.pt", checkpoints / "nodule_classifier/0.0.1/best.pt")
    with client_of(tmp_path) as client:
        answer = client.get("/v1/models")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert "got none that can be loaded. See the service's log." in answer.json()["detail"]


def test_bytes_in_memory_are_limited_and_one_request_always_fits():
    budget = BodyBudget(limit=100)
    with budget.reserved(150), pytest.raises(Problem) as error, budget.reserved(1):
        pass
    assert (error.value.status, error.value.headers) == (429, {"Retry-After": "1"})
    # Its own packed bytes do not count against a request that is alone.
    with budget.reserved(60), budget.reserved(90, own=60):
        pass
    with budget.reserved(60), budget.reserved(40):
        pass


def test_unpacked_cutouts_are_reserved_until_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(classify, "_MAX_BYTES_AT_ONCE", 30_000)
    predict, is_scoring, may_score = cutout_classifier.predict, threading.Event(), threading.Event()

    def held(*given):
        is_scoring.set()
        assert may_score.wait(60)
        return predict(*given)

    monkeypatch.setattr(cutout_classifier, "predict", held)
    save_models(tmp_path / "home")
    # 20 cutouts of 8 x 8 x 8 voxels: some hundred bytes become 20,480 and the header's 128.
    file = io.BytesIO()
    np.savez_compressed(file, ct_chunks=np.zeros((20, *CHUNK_IRC), np.int16))
    assert len(file.getvalue()) < 1000
    with client_of(tmp_path) as own, ThreadPoolExecutor(1) as pool:
        try:
            first = pool.submit(own.post, "/v1/classify", content=file.getvalue())
            assert is_scoring.wait(60)
            assert own.post("/v1/classify", content=file.getvalue(), timeout=15).status_code == 429
        finally:
            may_score.set()
        assert first.result(60).status_code == 200
        assert own.post("/v1/classify", content=file.getvalue()).status_code == 200


def test_a_body_that_stalls_gives_its_place_back_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(classify, "_MAX_SECONDS", 0.5)
    save_models(tmp_path / "home")

    def stalled() -> Iterator[bytes]:
        yield b"PK"
        threading.Event().wait(2)

    with client_of(tmp_path) as own:
        assert own.post("/v1/classify", content=stalled()).status_code == 408
