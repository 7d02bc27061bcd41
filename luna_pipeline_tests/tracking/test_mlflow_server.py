"""A real MLflow server that is unavailable during training for a while: no value is lost."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch

from luna_pipeline.core.events.messages import LogMetrics, Mode
from luna_pipeline.tracking.handlers import handlers_by_message
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
from luna_pipeline.tracking.mlflow_registry import load_registered_checkpoint
from luna_pipeline.tracking.mlflow_run import mlflow_run
from luna_pipeline.tracking.outbox import RetryingMessageHandler
from luna_pipeline_tests.processes import free_port, wait_for
from luna_pipeline_tests.tracking.test_mlflow_handlers import model_message, small_network

pytestmark = pytest.mark.slow

# Longer than all timeouts of a request.
OUTAGE_SECONDS = 25


class Server:
    """`mlflow server` on SQLite."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, *f"-m mlflow server --host 127.0.0.1 --port {self.port} --workers 1".split()]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # As in docker-compose.yml, without MLflow's own jobs: they are two more processes.
        environment = {**os.environ, "PATH": path, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
        wait_for(self._is_up, limit_seconds=180, what="The start of MLflow", every_seconds=0.2)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Make it accept connections without an answer."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def back_after(self, seconds: float) -> Iterator[None]:
        """Start it in the background after some seconds."""
        starting = threading.Thread(target=lambda: (time.sleep(seconds), self.start()))
        starting.start()
        try:
            yield
        finally:
            starting.join()

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@pytest.fixture(scope="module")
def running(tmp_path_factory, empty_database):
    """One server for all tests, since its start takes seconds; each test has a run of its own."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture
def server(running):
    if running.process is None:
        running.start()
    return running


@pytest.fixture
def run(server):
    with mlflow_run(server.uri, experiment="a", artifact_location=None, system_metrics_seconds=None) as opened:
        yield opened


@pytest.fixture
def handlers(run):
    return MlflowHandlers(run)


@pytest.fixture
def said(handlers):
    """Return a message handler, and a function that sends it the next metric."""
    message_handler, steps = RetryingMessageHandler(handlers_by_message([handlers.handlers()])), count(10, 10)

    def say() -> int:
        step = next(steps)
        values = {"auc": step / 1000}
        message_handler.handle_message(LogMetrics(epoch=1, mode=Mode.VALIDATION, num_samples_seen=step, values=values))
        return step

    return message_handler, say


def history(run) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in run.client.get_metric_history(run.run_id, "validation/auc")]


def checkpoints_of(run, server) -> list[Path]:
    """Files of the run's checkpoint in the server's artifact store."""
    return [path for path in (server.folder / "artifacts").rglob("checkpoint/best.pt") if run.run_id in path.parts]


def test_a_model_goes_through_the_server_into_its_artifact_store(server, monkeypatch):
    import mlflow

    network = small_network()
    with mlflow_run(server.uri, experiment="a", artifact_location=None, system_metrics_seconds=None) as run:
        handlers = MlflowHandlers(run)
        handlers.log_model(model_message(network))

    assert len(checkpoints_of(run, server)) == 1
    assert load_registered_checkpoint(server.uri, "nodule_classifier", "0.0.1").threshold == 0.25
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    chunks_hu = torch.randn(3, 1, 4, 6, 6)
    served = mlflow.pyfunc.load_model(handlers.model_uri).predict(chunks_hu.numpy())
    torch.testing.assert_close(torch.as_tensor(served), network(chunks_hu).softmax(dim=1)[:, 1].detach())


def test_no_metric_is_lost_while_the_server_is_away_in_mid_training(server, run, said, caplog):
    message_handler, say = said
    steps = [say() for _ in range(3)]
    server.stop()
    away = time.monotonic()
    while time.monotonic() - away < OUTAGE_SECONDS:
        steps.append(say())
        time.sleep(0.2)
    server.start()
    steps += [say() for _ in range(3)]
    message_handler.close()

    assert history(run) == [(step, step / 1000) for step in steps]
    # Training continues; with MLflow's own retries each value would take minutes.
    assert len(steps) > 20
    lines = [record.getMessage() for record in caplog.records if record.name == "luna_pipeline.tracking.outbox"]
    assert [line.split(";")[0] for line in lines if "retrying" not in line] == [
        "MlflowHandlers is unavailable",
        "MlflowHandlers is available again",
    ]


def test_a_server_that_hangs_takes_every_metric_once(server, run, said):
    message_handler, say = said
    steps = [say()]
    server.freeze()
    steps += [say(), say()]
    server.thaw()
    steps.append(say())
    message_handler.close()

    assert history(run) == [(step, step / 1000) for step in steps]


def test_the_end_waits_for_a_server_that_is_away(server, run, said):
    message_handler, say = said
    server.stop()
    steps = [say(), say()]
    with server.back_after(5):
        message_handler.close()

    assert history(run) == [(step, step / 1000) for step in steps]


def test_a_model_waits_for_a_server_that_is_away_and_is_registered_once(server, run, handlers, said):
    message_handler, say = said
    server.stop()
    step = say()
    with server.back_after(5):
        message_handler.handle_message(model_message(small_network()))

    assert history(run) == [(step, step / 1000)]
    (registered,) = run.client.search_model_versions(f"run_id = '{run.run_id}'")
    assert handlers.model_uri == f"models:/nodule_classifier/{registered.version}"
    assert len(checkpoints_of(run, server)) == 1
