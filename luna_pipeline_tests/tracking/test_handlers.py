"""Handlers by name, and logging of batches."""

import subprocess
import sys

import pytest

from luna_pipeline.core.events.messages import LogBatch, LogMetrics, LogStart, MessageHandler, Mode
from luna_pipeline.core.training.services import ServiceContainer
from luna_pipeline.tracking.console import ConsoleHandlers
from luna_pipeline.tracking.handlers import (
    HANDLERS,
    HandlerContext,
    batch_values,
    build_handlers,
    handlers_by_message,
    is_kept,
)


def batch(index: int, mode: Mode = Mode.TRAINING) -> LogBatch:
    return LogBatch(epoch=1, mode=mode, batch_index=index, num_batches=9, num_samples_seen=4, loss=0.1)


@pytest.mark.seed_defect(42)
def test_the_first_batch_is_kept_and_then_each_nth():
    kept = [index for index in range(9) if is_kept(batch(index), every_nth_batch=4)]
    assert kept == [0, 4, 8]


def test_validation_batches_are_not_kept():
    assert not is_kept(batch(0, Mode.VALIDATION), every_nth_batch=1)


def test_every_zeroth_batch_is_refused():
    with pytest.raises(ValueError, match="every_nth_batch must be at least 1, got 0"):
        is_kept(batch(0), every_nth_batch=0)


@pytest.mark.seed_defect(44)
def test_batch_values_have_keys_of_their_own():
    message = LogBatch(
        epoch=1,
        mode=Mode.TRAINING,
        batch_index=4,
        num_batches=9,
        num_samples_seen=4,
        loss=0.1,
        values={"gradient_norm": 2.5},
    )
    kept = batch_values(message, every_nth_batch=4)
    assert kept == {"training_batch/gradient_norm": 2.5, "training_batch/loss": 0.1}
    assert batch_values(message, every_nth_batch=3) == {}
    assert not kept.keys() & {f"{mode}/loss" for mode in Mode}


def test_handlers_of_several_trackers_stand_side_by_side():
    def first(message):
        pass

    def second(message):
        pass

    together = handlers_by_message([{LogBatch: first, LogMetrics: first}, {LogBatch: second}])
    assert together == {LogBatch: [first, second], LogMetrics: [first]}


def context(folder, **options) -> HandlerContext:
    return HandlerContext(name="nodule_classifier", version="0.0.1", folder=folder, **options)


class Diary:
    """A user's handler."""

    def __init__(self, context):
        self.lines, self.context = [], context

    def handlers(self):
        return {LogStart: self.write}

    def write(self, message):
        self.lines.append(f"{self.context.name} {self.context.version}: {message.description}")

    def close(self):
        self.lines.append("closed")


@pytest.fixture
def diary():
    HANDLERS.register("diary")(Diary)
    yield
    HANDLERS.forget("diary")


def test_a_handler_of_a_users_own_hears_the_run_beside_the_others_and_is_closed(diary, tmp_path):
    lines, before = [], []
    with ServiceContainer() as services:
        also = [{LogStart: before.append}]
        built = build_handlers(["diary", "console"], context(tmp_path, write_line=lines.append), services, also=also)
        own = services.get_service(Diary)
        built.handle_message(LogStart(description="begins"))
        assert services.get_service(MessageHandler) is built
        assert isinstance(services.get_service(ConsoleHandlers), ConsoleHandlers)
    assert own.lines == ["nodule_classifier 0.0.1: begins", "closed"]
    assert (lines, len(before)) == (["begins"], 1)


def test_what_waits_is_handed_over_while_the_handler_is_still_open(diary, tmp_path, monkeypatch):
    errors = [ConnectionError("away")]

    def now_and_then(self, message):
        if errors:
            raise errors.pop()
        self.lines.append(message.description)

    monkeypatch.setattr(Diary, "write", now_and_then)
    with ServiceContainer() as services:
        build_handlers(["diary"], context(tmp_path), services).handle_message(LogStart(description="begins"))
        own = services.get_service(Diary)
        assert own.lines == []
    assert own.lines == ["begins", "closed"]


def test_all_handlers_of_the_project_are_built_by_their_names(tmp_path):
    from luna_pipeline.tracking.mlflow_handlers import MlflowHandlers
    from luna_pipeline.tracking.mlflow_run import MlflowRun
    from luna_pipeline.tracking.tensorboard_tracking import TensorBoardHandlers

    run = MlflowRun.at(f"sqlite:///{tmp_path}/mlflow.db", "a" * 32)
    with ServiceContainer() as services:
        build_handlers(
            ["console", "mlflow", "tensorboard"],
            context(tmp_path / "logs", mlflow_run=run, first_step=41, tags={"config_digest": "abc"}),
            services,
        )
        assert services.get_service(MlflowHandlers).tags == {"config_digest": "abc"}
        assert services.get_service(TensorBoardHandlers).first_step == 41
        assert services.get_service(MlflowHandlers).first_step == 41
        assert services.get_service(TensorBoardHandlers).folder == tmp_path / "logs"


def test_a_name_that_nobody_registered_and_mlflow_without_a_run_are_refused(tmp_path):
    with ServiceContainer() as services, pytest.raises(ValueError, match="must be one of console, mlflow, tensorboard"):
        build_handlers(["wandb"], context(tmp_path), services)
    with ServiceContainer() as services, pytest.raises(ValueError, match=r"got none \(nodule_classifier 0\.0\.1\)"):
        build_handlers(["mlflow"], context(tmp_path), services)


def test_a_name_is_checked_without_waiting_for_trackers():
    code = (
        "import sys; from luna_pipeline.tracking.handlers import HANDLERS; HANDLERS.check('mlflow');"
        "print([m for m in ('mlflow', 'torch', 'tensorboard', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
