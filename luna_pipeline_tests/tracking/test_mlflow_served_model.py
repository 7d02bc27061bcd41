"""`mlflow models serve` of the registered classifier: it answers, and refuses what its signature does not allow."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from luna_pipeline.core.export.probability import published
from luna_pipeline.launchers.installation import open_mlflow_run
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_model import register_model
from luna_pipeline.tracking.mlflow_registry import promote
from luna_pipeline_tests.diagnosis_models import checkpoint_of, small_classifier
from luna_pipeline_tests.processes import free_port, started, wait_for

pytestmark = pytest.mark.slow

CHUNKS = np.random.default_rng(0).integers(-1000, 1001, (3, 1, 8, 8, 8)).astype(np.float32)


def answer_to(address: str, body: object = None) -> tuple[int, object]:
    """Return status and JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read().strip() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def is_up(address: str) -> bool:
    try:
        return answer_to(f"{address}/ping")[0] == 200
    except (OSError, ValueError):
        return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[str]:
    """Address of MLflow's server of the champion."""
    root = tmp_path_factory.mktemp("served")
    (root / "mlflow.db").write_bytes(empty_database.read_bytes())
    uri = f"sqlite:///{root / 'mlflow.db'}"
    settings = Settings.from_environment({"LUNA_HOME": str(root / "home"), "MLFLOW_TRACKING_URI": uri})
    checkpoint = checkpoint_of("classifier")
    _, signature = published(checkpoint)
    with open_mlflow_run(settings, run_name="test", system_metrics_seconds=None) as run:
        tags = {"checkpoint": "nodule_classifier 0.0.1"}
        register_model(run, small_classifier(), name=checkpoint.name, signature=signature, tags=tags)
    promote(uri, checkpoint.name, "1")
    port = free_port()
    command = f"-m mlflow models serve -m models:/nodule_classifier@champion --env-manager local -h 127.0.0.1 -p {port}"
    environment = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    address = f"http://127.0.0.1:{port}"
    with started([sys.executable, *command.split()], environment=environment, log=root / "serve.log"):
        wait_for(lambda: is_up(address), limit_seconds=180, what="start of the model's server", every_seconds=0.5)
        yield address


def test_it_returns_the_probabilities_of_any_number_of_cutouts(served: str):
    with torch.inference_mode():
        expected = small_classifier()(torch.from_numpy(CHUNKS)).softmax(dim=1)[:, 1].numpy()
    for count in (1, 3):
        status, body = answer_to(f"{served}/invocations", {"inputs": CHUNKS[:count].tolist()})
        assert status == 200
        np.testing.assert_allclose(body["predictions"], expected[:count], atol=1e-6)


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((2, 1, 8, 8, 7)).tolist(),
        np.zeros((2, 8, 8, 8)).tolist(),
        np.zeros((1, 2, 8, 8, 8)).tolist(),
        0,
        [],
        np.full((1, 1, 8, 8, 8), "text").tolist(),
        {"chunks_hu": np.zeros((1, 1, 8, 8, 8)).tolist()},
    ],
    ids=["size", "axis", "channels", "number", "empty", "text", "named"],
)
def test_what_its_signature_does_not_allow_is_refused_and_the_server_lives(served: str, inputs: object):
    status, body = answer_to(f"{served}/invocations", {"inputs": inputs})
    assert 400 <= status < 500, body
    assert is_up(served)
