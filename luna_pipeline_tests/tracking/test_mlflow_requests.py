"""A server of MLflow that cannot be reached is reported soon, with its address and what to do."""

import socket
import time

import pytest
from mlflow import MlflowClient

from luna_pipeline.tracking import mlflow_requests, mlflow_run
from luna_pipeline.tracking.mlflow_registry import load_registered_checkpoint
from luna_pipeline.tracking.mlflow_requests import first_answer
from luna_pipeline.tracking.outbox import TrackerUnavailableError


class Clock:
    """Seconds that pass by sleeping, and by a request."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def server(clock: Clock, *, away_seconds: float, request_seconds: float = 0.1):
    def ask() -> str:
        clock.now += request_seconds
        if clock.now < away_seconds:
            raise ConnectionError("refused at http://me:secret@there")
        return "an experiment"

    return ask


def test_a_server_that_is_away_is_reported_within_ten_seconds_with_its_address_and_what_to_do():
    clock = Clock()
    with pytest.raises(TrackerUnavailableError) as refusal:
        first_answer(server(clock, away_seconds=99), "http://me:secret@there:5000", clock=clock, sleep=clock.sleep)
    assert clock.now < 10
    assert str(refusal.value) == (
        "MLflow must answer at the start, got no answer within 8 s (http://there:5000). Start it, correct "
        "MLFLOW_TRACKING_URI, or train without it (--no-mlflow). Reason: refused at http://there"
    )


@pytest.mark.parametrize("request_seconds", [0.1, 4.0])
def test_a_server_that_starts_meanwhile_is_waited_for(request_seconds):
    clock = Clock()
    ask = server(clock, away_seconds=5, request_seconds=request_seconds)
    assert first_answer(ask, "http://there", clock=clock, sleep=clock.sleep) == "an experiment"


def test_another_error_is_raised_at_once():
    def ask() -> None:
        raise ValueError("deleted")

    with pytest.raises(ValueError, match="deleted"):
        first_answer(ask, "http://there", sleep=lambda _seconds: pytest.fail("waited"))


@pytest.fixture(params=["closed", "silent"])
def dead_uri(request):
    """Address of a port that refuses connections, or accepts them without an answer."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_opening_a_run_and_loading_weights_report_a_dead_server(dead_uri, monkeypatch):
    monkeypatch.setattr(mlflow_requests, "SECONDS_TO_FIRST_ANSWER", 1.0)
    started = time.monotonic()
    with pytest.raises(TrackerUnavailableError, match=rf"must answer at the start, .* \({dead_uri}\)"):
        mlflow_run.mlflow_run(dead_uri, experiment="a", artifact_location=None).__enter__()
    with pytest.raises(TrackerUnavailableError, match=f"must answer, .*{dead_uri}"):
        load_registered_checkpoint(dead_uri, "nodule_classifier", "0.0.1")
    assert time.monotonic() - started < 6


def test_the_end_of_a_run_waits_for_a_server_that_is_away(tracking_uri, tmp_path, monkeypatch, caplog):
    left, original = iter([True]), MlflowClient.set_terminated

    def once_away(self, *arguments):
        if next(left, False):
            raise ConnectionError("restarting")
        return original(self, *arguments)

    monkeypatch.setattr(MlflowClient, "set_terminated", once_away)
    options = {"artifact_location": tmp_path / "artifacts", "system_metrics_seconds": None}
    with mlflow_run.mlflow_run(tracking_uri, experiment="a", **options) as run:
        pass
    assert run.client.get_run(run.run_id).info.status == "FINISHED"
    assert f"MLflow run {run.run_id} is unavailable" in caplog.text
