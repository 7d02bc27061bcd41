"""A real MLflow server that goes away in mid-training and comes back: no number is lost."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

from luna_pipeline.core.messages import LogMetrics, MessageHandler, Mode
from luna_pipeline.tracking.handlers import handlers_by_message
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
from luna_pipeline.tracking.mlflow_run import mlflow_run
from luna_pipeline_tests.tracking.test_mlflow_handlers import model_message, small_network

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`mlflow server` on SQLite, started and stopped at will."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}",
            "--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1",
        ]  # fmt: skip
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, "PATH": path}
            )
        deadline = time.monotonic() + 180
        while not self._is_up():
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@pytest.fixture
def server(tmp_path, empty_database):
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    running = Server(tmp_path)
    running.start()
    yield running
    running.stop()


def test_no_metric_is_lost_while_the_server_restarts(server):
    with mlflow_run(server.uri, experiment="a", artifact_location=None, system_metrics_seconds=None) as run:
        message_handler = MessageHandler(handlers_by_message([MlflowHandlers(run).handlers()]))

        def say(step: int) -> None:
            values = {"auc": step / 100}
            message_handler.handle_message(
                LogMetrics(epoch=1, mode=Mode.VALIDATION, num_samples_seen=step, values=values)
            )

        say(10)
        server.stop()
        started = time.monotonic()
        say(20)
        say(30)
        seconds_away = time.monotonic() - started
        server.start()
        say(40)
        message_handler.close()

    history = run.client.get_metric_history(run.run_id, "validation/auc")
    assert [(point.step, point.value) for point in history] == [(10, 0.1), (20, 0.2), (30, 0.3), (40, 0.4)]
    assert run.client.get_run(run.run_id).info.status == "FINISHED"
    # Training goes on meanwhile: MLflow's own patience would be minutes for each number.
    assert seconds_away < 30


def test_a_model_goes_through_the_server_into_its_artifact_store(server, monkeypatch):
    import mlflow

    network = small_network()
    with mlflow_run(server.uri, experiment="a", artifact_location=None, system_metrics_seconds=None) as run:
        handlers = MlflowHandlers(run)
        handlers.log_model(model_message(network))

    assert list((server.folder / "artifacts").rglob("checkpoint/best.pt"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    chunks_hu = torch.randn(3, 1, 4, 6, 6)
    served = mlflow.pyfunc.load_model(handlers.model_uri).predict(chunks_hu.numpy())
    torch.testing.assert_close(torch.as_tensor(served), network(chunks_hu).softmax(dim=1)[:, 1].detach())
