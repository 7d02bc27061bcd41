"""MLflow stores the messages of a run."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from torch import nn

from luna_pipeline.core.events.messages import LogBatch, LogMetrics, LogModel, LogParams, LogStart, MessageHandler, Mode
from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.models.base import Signature, TensorSpec
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.core.training.recipes import demo
from luna_pipeline.tracking.handlers import handlers_by_message
from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
from luna_pipeline.tracking.mlflow_inputs import DataInput
from luna_pipeline.tracking.mlflow_model import model_summary
from luna_pipeline.tracking.mlflow_requests import is_outage
from luna_pipeline.tracking.mlflow_run import MlflowRun, mlflow_run
from luna_pipeline.tracking.outbox import RetryingMessageHandler, UndeliveredMessagesError

SIGNATURE = Signature(
    inputs=(TensorSpec("chunks_hu", "float32", (-1, 1, 4, 6, 6)),),
    outputs=(TensorSpec("probability", "float32", (-1,)),),
)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm3d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 2)).eval()


def checkpoint() -> Checkpoint:
    return Checkpoint(
        name="nodule_classifier",
        version="0.0.1",
        config=demo(),
        model_state=small_network().state_dict(),
        optimizer_state={},
        scheduler_state={},
        epoch=2,
        num_samples_seen=80,
        best_score=0.9,
        decision=Decision.at(0.25),
        rng_state={},
        training_series=["a"],
        validation_series=["b"],
        training_candidate_ids=torch.tensor([1, 2]),
        data_fingerprint="f" * 64,
    )


def model_message(module: nn.Module, version: str = "0.0.1") -> LogModel:
    return LogModel(
        name="nodule_classifier", version=version, checkpoint=checkpoint(), module=module, signature=SIGNATURE
    )


def metrics(step: int, mode: Mode = Mode.VALIDATION, **values: float) -> LogMetrics:
    return LogMetrics(epoch=1, mode=mode, num_samples_seen=step, values=values)


def batch(index: int, mode: Mode) -> LogBatch:
    return LogBatch(
        epoch=1,
        mode=mode,
        batch_index=index,
        num_batches=5,
        num_samples_seen=4 * index,
        loss=0.5,
        values={"learning_rate": 0.01},
    )


@pytest.fixture
def run(tracking_uri, tmp_path):
    with mlflow_run(
        tracking_uri, experiment="a", artifact_location=tmp_path / "artifacts", system_metrics_seconds=None
    ) as opened:
        yield opened


def send(run: MlflowRun, *messages, **options) -> MlflowHandlers:
    handlers = MlflowHandlers(run, **options)
    message_handler = MessageHandler(handlers_by_message([handlers.handlers()]))
    for message in messages:
        message_handler.handle_message(message)
    message_handler.close()
    return handlers


def points(run: MlflowRun, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in run.client.get_metric_history(run.run_id, key)]


@pytest.mark.seed_defect(43, 44)
def test_metrics_of_both_modes_share_the_step_and_batches_have_their_own_key(run):
    batches = [batch(index, mode) for mode in (Mode.TRAINING, Mode.VALIDATION) for index in range(5)]
    send(run, *batches, metrics(20, Mode.TRAINING, loss=0.3), metrics(20, loss=0.2, auc=0.7), every_nth_batch=2)

    assert points(run, "training_batch/loss") == [(0, 0.5), (8, 0.5), (16, 0.5)]
    assert points(run, "training_batch/learning_rate") == [(0, 0.01), (8, 0.01), (16, 0.01)]
    assert points(run, "training/loss") == [(20, 0.3)]
    assert points(run, "validation/auc") == [(20, 0.7)]
    assert "validation_batch/loss" not in run.client.get_run(run.run_id).data.metrics


def test_a_resumed_run_does_not_repeat_what_its_killed_attempt_logged(run):
    send(
        run,
        *[batch(index, Mode.TRAINING) for index in range(4)],
        metrics(12, Mode.TRAINING, loss=0.3),
        every_nth_batch=1,
    )
    # The checkpoint that it resumes from was written after the second batch, at step 4.
    again = [batch(index, Mode.TRAINING) for index in (2, 3, 4)]
    send(run, *again, metrics(12, Mode.TRAINING, loss=0.3), metrics(12, auc=0.7), every_nth_batch=1, first_step=5)

    assert points(run, "training_batch/loss") == [(step, 0.5) for step in (0, 4, 8, 12, 16)]
    assert points(run, "training_batch/learning_rate") == [(step, 0.01) for step in (0, 4, 8, 12, 16)]
    assert points(run, "training/loss") == [(12, 0.3)]
    assert points(run, "validation/auc") == [(12, 0.7)]


@pytest.mark.seed_defect(69)
def test_the_whole_configuration_is_kept_also_a_long_one(run):
    params = demo().flat() | {f"more.{number}": number for number in range(150)}
    send(run, LogParams(params=params))

    kept = run.client.get_run(run.run_id).data.params
    assert kept == {key: str(value) for key, value in params.items()}
    assert kept["num_epochs"] == str(demo().num_epochs)


def test_the_run_says_what_it_is_for(run):
    send(run, LogStart(description="Nodule or not"), tags={"config_digest": "abc"})

    tags = run.client.get_run(run.run_id).data.tags
    assert tags["intended_use"] == "research use only"
    assert tags["config_digest"] == "abc"
    assert tags["mlflow.note.content"] == "Nodule or not\n\nResearch use only."


def test_the_description_ends_with_the_note_of_the_run(run):
    send(replace(run, note="[Run in Dagster](http://a/runs/1)"), LogStart(description="Nodule or not"))
    note = run.client.get_run(run.run_id).data.tags["mlflow.note.content"]
    assert note.split("\n\n") == ["Nodule or not", "Research use only.", "[Run in Dagster](http://a/runs/1)"]


def test_data_sets_are_inputs_of_the_run_once_with_their_roles_and_without_contents(run):
    inputs = [
        DataInput(role=role, name="cutouts", digest=letter * 64, source=f"{place}/cutouts", num_rows=rows)
        for role, letter, place, rows in (("training", "a", "/home", 119), ("validation", "b", "s3://bucket", 59))
    ]
    # A resumed run sends its start again.
    send(run, LogStart(description=""), LogStart(description=""), inputs=inputs)

    kept = run.client.get_run(run.run_id).inputs.dataset_inputs
    found = {each.tags[0].value: each.dataset for each in kept}
    assert len(kept) == 2
    assert {role: (it.name, it.digest, it.source_type) for role, it in found.items()} == {
        "training": ("cutouts", "a" * 12, "local"),
        "validation": ("cutouts", "b" * 12, "s3"),
    }
    assert json.loads(found["validation"].source) == {"uri": "s3://bucket/cutouts"}
    assert json.loads(found["training"].profile) == {"num_rows": 119}


def test_what_is_undefined_is_kept_as_nan(run):
    send(run, metrics(20, auc=float("nan")))
    ((step, value),) = points(run, "validation/auc")
    assert step == 20
    assert math.isnan(value)


def test_the_checkpoint_is_kept_and_can_be_loaded(run):
    send(run, model_message(small_network()))

    path = run.client.download_artifacts(run.run_id, "checkpoint/best.pt")
    assert load_checkpoint(Path(path)).threshold == 0.25


@pytest.mark.seed_defect(45)
def test_the_registered_model_gives_the_probability_for_any_number_of_cutouts(run, monkeypatch):
    import mlflow

    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    handlers = send(run, model_message(network), tags={"data_fingerprint": "f" * 64})

    monkeypatch.setenv("MLFLOW_TRACKING_URI", run.tracking_uri)
    assert handlers.model_uri == "models:/nodule_classifier/1"
    loaded = mlflow.pyfunc.load_model(handlers.model_uri)
    for count in (1, 2, 5):
        chunks_hu = torch.randn(count, 1, 4, 6, 6) * 400
        expected = network(chunks_hu).softmax(dim=1)[:, 1].detach()
        torch.testing.assert_close(torch.as_tensor(loaded.predict(chunks_hu.numpy())), expected)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_registered_version_tells_where_it_comes_from(run):
    send(run, model_message(small_network()), tags={"data_fingerprint": "f" * 64})

    version = run.client.get_model_version("nodule_classifier", "1")
    assert version.run_id == run.run_id
    assert version.status == "READY"
    assert version.tags == {
        "data_fingerprint": "f" * 64,
        "intended_use": "research use only",
        "checkpoint": "nodule_classifier 0.0.1",
        "threshold": "0.25",
    }


def test_a_second_model_of_the_name_becomes_its_next_version(run):
    handlers = send(run, model_message(small_network()), model_message(small_network(), "0.0.2"))
    assert handlers.model_uri == "models:/nodule_classifier/2"


def test_a_model_that_is_handed_over_twice_is_registered_once(run):
    handlers = send(run, model_message(small_network()), model_message(small_network()))
    assert handlers.model_uri == "models:/nodule_classifier/1"
    assert len(run.client.search_model_versions("name = 'nodule_classifier'")) == 1


@pytest.mark.seed_defect(63)
def test_a_model_that_cannot_be_kept_fails_the_run(run, monkeypatch):
    def full(self, *_arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(MlflowClient, "log_artifact", full)
    with pytest.raises(OSError, match="No space left"):
        send(run, model_message(small_network()))


def test_a_half_written_model_is_marked_as_failed(run, monkeypatch):
    def full(self, *_arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", full)
    with pytest.raises(OSError, match="No space left"):
        send(run, model_message(small_network()))
    experiment = run.client.get_run(run.run_id).info.experiment_id
    (logged,) = run.client.search_logged_models([experiment])
    assert logged.status == "FAILED"


@pytest.mark.seed_defect(58)
def test_the_summary_is_whole_and_nothing_is_computed_for_it(run):
    class Untouchable(nn.Linear):
        def forward(self, _):
            raise AssertionError

    text = model_summary(nn.Sequential(nn.BatchNorm3d(1), Untouchable(144, 2)))
    assert [line.split() for line in text.splitlines()] == [
        ["layer", "kind", "parameters"],
        ["(whole)", "Sequential", "292"],
        ["0", "BatchNorm3d", "2"],
        ["1", "Untouchable", "290"],
    ]


class Away:
    """Replaces MLflow's ``log_batch`` by one without a server while ``is_away``."""

    def __init__(self, monkeypatch) -> None:
        log_batch = MlflowClient.log_batch
        self.is_away = True

        def now_and_then(client, *arguments, **options):
            if self.is_away:
                raise MlflowException("no answer") from requests.exceptions.ConnectTimeout("timed out")
            return log_batch(client, *arguments, **options)

        monkeypatch.setattr(MlflowClient, "log_batch", now_and_then)


def test_metrics_wait_while_mlflow_is_away_and_none_is_lost(run, monkeypatch):
    mlflow = Away(monkeypatch)
    handlers = MlflowHandlers(run)
    message_handler = RetryingMessageHandler(handlers_by_message([handlers.handlers()]), patience_seconds=0)
    for step in (10, 20):
        message_handler.handle_message(metrics(step, auc=step / 100))
    with pytest.raises(UndeliveredMessagesError, match=r"2 not sent to MlflowHandlers: no answer"):
        message_handler.close()
    mlflow.is_away = False
    message_handler.close()

    assert points(run, "validation/auc") == [(10, 0.1), (20, 0.2)]


def test_what_mlflow_gets_late_or_twice_stands_once_at_its_own_time(run):
    message = replace(metrics(10, auc=0.5), created_at=1234.5)
    send(run, message, message)
    (point,) = run.client.get_metric_history(run.run_id, "validation/auc")
    assert point.timestamp == 1_234_500


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (requests.exceptions.ConnectionError("refused"), True),
        (requests.exceptions.ReadTimeout("slow"), True),
        (requests.exceptions.RetryError("too many 503 error responses"), True),
        (MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("not a number", error_code=INVALID_PARAMETER_VALUE), False),
        (OSError("No space left on device"), False),
    ],
)
def test_an_outage_is_told_from_a_refusal_by_what_led_to_the_error(cause, expected):
    error = MlflowException("API request failed")
    error.__context__ = cause
    assert is_outage(error) is expected


@pytest.mark.parametrize(("status", "expected"), [(502, True), (429, True), (403, False), (404, False)])
def test_a_proxy_before_a_dead_server_is_an_outage(status, expected):
    response = requests.Response()
    response.status_code = status
    assert is_outage(requests.exceptions.HTTPError(response=response)) is expected


def test_only_numbers_are_hasty_and_the_environment_stays_as_it_was(run, monkeypatch):
    import os

    seen = []
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setattr(
        MlflowClient, "log_batch", lambda *_, **__: seen.append(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    )
    send(run, metrics(10, auc=0.5))

    assert seen == ["1"]
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
