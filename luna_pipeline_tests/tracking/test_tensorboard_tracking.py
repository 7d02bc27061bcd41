"""TensorBoard reads back what was logged."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from luna_pipeline.core.events.messages import (
    LogBatch,
    LogMetrics,
    LogModel,
    LogParams,
    LogPicture,
    LogResult,
    MessageHandler,
    Mode,
)
from luna_pipeline.tracking.handlers import handlers_by_message
from luna_pipeline.tracking.tensorboard_tracking import TensorBoardHandlers

MODEL = LogModel(name="a", version="0.0.1", checkpoint=None, module=None, signature=None)


def metrics(mode: Mode, step: int, **values: float) -> LogMetrics:
    return LogMetrics(epoch=1, mode=mode, num_samples_seen=step, values=values)


def batch(index: int, mode: Mode = Mode.TRAINING) -> LogBatch:
    return LogBatch(
        epoch=1,
        mode=mode,
        batch_index=index,
        num_batches=9,
        num_samples_seen=4 * (index + 1),
        loss=index / 8,
        values={"gradient_norm": 2.0 * index},
    )


def result(labels: list[int], scores: list[float]) -> LogResult:
    return LogResult(
        epoch=1, mode=Mode.VALIDATION, num_samples_seen=40, labels=np.array(labels), scores=np.array(scores)
    )


def written(folder, messages, **options) -> EventAccumulator:
    handlers = TensorBoardHandlers(folder, **options)
    message_handler = MessageHandler(handlers_by_message([handlers.handlers()]))
    for message in messages:
        message_handler.handle_message(message)
    message_handler.close()
    handlers.close()
    return read_back(folder)


def read_back(folder) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def hyperparameters(folder) -> dict:
    """TensorBoard's table of hyperparameters: values, metrics by folder and name, and status, of each run."""
    from google.protobuf.json_format import MessageToDict
    from tensorboard.backend.event_processing import data_provider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    backend = backend_context.Context(TBContext(data_provider=provider))
    experiment = backend.experiment_from_metadata(
        RequestContext(), "", True, backend.hparams_metadata(RequestContext(), ""), None
    )
    columns = [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=10, col_params=columns, allowed_statuses=list(api_pb2.Status.values())
    )
    groups = list_session_groups.Handler(RequestContext(), backend, "", request).run()
    rows = [MessageToDict(each) for each in groups.session_groups]
    return {
        row["sessions"][0]["name"]: (
            row["hparams"],
            {(it["name"].get("group", ""), it["name"]["tag"]): it["value"] for it in row["metricValues"]},
            row["sessions"][0]["status"],
        )
        for row in rows
    }


def points(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.mark.seed_defect(43, 44)
def test_both_modes_share_the_axis_and_batches_have_a_key_of_their_own(tmp_path):
    messages = [batch(index) for index in range(9)]
    messages += [batch(0, Mode.VALIDATION)]
    messages += [metrics(Mode.TRAINING, 40, loss=0.5), metrics(Mode.VALIDATION, 40, loss=0.25, auc=0.75)]
    events = written(tmp_path / "run", messages, every_nth_batch=4)
    training, validation = read_back(tmp_path / "run/training"), read_back(tmp_path / "run/validation")

    assert points(events, "training_batch/loss") == [(4, 0.0), (20, 0.5), (36, 1.0)]
    assert points(events, "training_batch/gradient_norm") == [(4, 0.0), (20, 8.0), (36, 16.0)]
    # One name in two folders: TensorBoard draws both curves in one chart.
    assert points(training, "epoch/loss") == [(40, 0.5)]
    assert points(validation, "epoch/loss") == [(40, 0.25)]
    assert points(validation, "epoch/auc") == [(40, 0.75)]


def test_scores_become_a_curve_and_a_histogram_a_class(tmp_path):
    written(tmp_path / "run", [result([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9])])
    events = read_back(tmp_path / "run/validation")

    counts = {tag: events.Histograms(tag)[0].histogram_value.num for tag in events.Tags()["histograms"]}
    assert counts == {"scores_of_non_nodule": 3, "scores_of_nodule": 1}
    assert events.Tensors("precision_recall")[0].step == 40


def test_histograms_have_the_words_of_the_labels(tmp_path):
    written(tmp_path / "run", [replace(result([0, 1], [0.1, 0.9]), label_names=("benign", "malignant"))])
    tags = read_back(tmp_path / "run/validation").Tags()
    assert tags["histograms"] == ["scores_of_benign", "scores_of_malignant"]


def test_what_is_written_late_stands_at_its_own_time(tmp_path):
    written(tmp_path / "run", [replace(metrics(Mode.TRAINING, 40, loss=0.5), created_at=1234.5)])
    assert read_back(tmp_path / "run/training").Scalars("epoch/loss")[0].wall_time == 1234.5


def test_a_split_with_one_class_alone_is_written_too(tmp_path):
    written(tmp_path / "run", [result([0, 0], [0.1, 0.2])])
    assert read_back(tmp_path / "run/validation").Tags()["histograms"] == ["scores_of_non_nodule"]


def test_scores_that_are_nan_have_neither_curve_nor_histogram(tmp_path):
    written(tmp_path / "run", [result([0, 1], [0.1, np.nan]), metrics(Mode.VALIDATION, 40, loss=0.5)])
    assert read_back(tmp_path / "run/validation").Tags()["histograms"] == []


def test_runs_are_rows_of_the_table_of_hyperparameters_with_their_last_values(tmp_path):
    params = {"num_epochs": 2, "recipe": "demo", "scheduler.warmup": None, "ratio": [1, 2], "is_flipped": True}
    for name, auc in (("0.0.1", 0.75), ("0.0.2", 0.5)):
        written(tmp_path / name, [LogParams(params=params), metrics(Mode.VALIDATION, 40, auc=auc), MODEL])

    assert hyperparameters(tmp_path) == {
        name: (
            {"num_epochs": 2.0, "recipe": "demo", "scheduler.warmup": "None", "ratio": "[1, 2]", "is_flipped": "True"},
            {("validation", "epoch/auc"): auc},
            "STATUS_SUCCESS",
        )
        for name, auc in (("0.0.1", 0.75), ("0.0.2", 0.5))
    }


def test_the_configuration_is_a_table(tmp_path):
    events = written(tmp_path / "run", [LogParams(params={"network.dropout_rate": 0.2})])
    text = events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| network.dropout_rate | 0.2 |" in text


def test_a_continued_run_takes_the_place_of_what_was_lost(tmp_path):
    written(tmp_path / "run", [metrics(Mode.TRAINING, 40, loss=0.5), metrics(Mode.TRAINING, 80, loss=9.0)])
    written(tmp_path / "run", [metrics(Mode.TRAINING, 80, loss=0.25)], first_step=41)

    assert points(read_back(tmp_path / "run/training"), "epoch/loss") == [(40, 0.5), (80, 0.25)]


def test_an_epoch_can_be_read_while_the_run_goes_on(tmp_path, monkeypatch):
    # The slowest possible writer thread: it writes only during a flush.
    is_waited_for, write, flush = threading.Event(), RecordWriter.write, SummaryWriter.flush
    monkeypatch.setattr(RecordWriter, "write", lambda self, data: is_waited_for.wait(1) and write(self, data))
    monkeypatch.setattr(SummaryWriter, "flush", lambda self: (is_waited_for.set(), flush(self)))
    handlers = TensorBoardHandlers(tmp_path / "run")
    handlers.log_metrics(metrics(Mode.TRAINING, 40, loss=0.5))
    try:
        assert is_waited_for.is_set()
        assert points(read_back(tmp_path / "run/training"), "epoch/loss") == [(40, 0.5)]
    finally:
        is_waited_for.set()
        handlers.close()


def test_a_run_that_says_nothing_leaves_no_folder(tmp_path):
    TensorBoardHandlers(tmp_path / "run").close()
    assert not (tmp_path / "run").exists()


def test_a_picture_comes_back_at_its_step(tmp_path):
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    message = LogPicture(epoch=1, mode=Mode.VALIDATION, num_samples_seen=40, name="slices", pixels=pixels)
    written(tmp_path / "run", [message])
    (event,) = read_back(tmp_path / "run/validation").Images("slices")
    assert (event.step, event.width, event.height) == (40, 6, 4)
