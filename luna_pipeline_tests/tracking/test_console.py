"""Console: lines without a terminal, a bar with one."""

import io

import numpy as np
import pytest
from rich.console import Console

from luna_pipeline.core.events.messages import (
    LogBatch,
    LogBatchEnd,
    LogBatchStart,
    LogEpoch,
    LogMetrics,
    LogModel,
    LogProfile,
    LogStart,
    MessageHandler,
    Mode,
)
from luna_pipeline.tracking.console import ConsoleHandlers, plain_share
from luna_pipeline.tracking.handlers import handlers_by_message

ESCAPE = "\x1b"


def epoch_of(num_batches: int):
    yield LogStart(description="nodule_classifier 0.0.1 [plain]")
    yield LogEpoch(epoch=1, num_epochs=2, batch_size=4, num_training_samples=4 * num_batches, num_validation_samples=8)
    yield LogBatchStart(epoch=1, mode=Mode.TRAINING, num_batches=num_batches)
    for index in range(num_batches):
        yield LogBatch(
            epoch=1,
            mode=Mode.TRAINING,
            batch_index=index,
            num_batches=num_batches,
            num_samples_seen=4 * (index + 1),
            loss=0.5,
        )
    yield LogBatchEnd(epoch=1, mode=Mode.TRAINING, num_batches=num_batches, seconds=1.25, seconds_waiting=0.05)
    yield LogMetrics(
        epoch=1, mode=Mode.TRAINING, num_samples_seen=40, values={"loss": 0.5, "auc": np.nan, "other": 1.0}
    )
    yield LogModel(name="nodule_classifier", version="0.0.1", checkpoint=None, module=None, signature=None)


def send(handlers: ConsoleHandlers, messages) -> None:
    message_handler = MessageHandler(handlers_by_message([handlers.handlers()]))
    for message in messages:
        message_handler.handle_message(message)
    message_handler.close()


def test_without_a_terminal_an_epoch_is_a_few_plain_lines():
    out = io.StringIO()
    send(ConsoleHandlers(console=Console(file=out, width=40)), epoch_of(1000))

    assert out.getvalue().splitlines() == [
        "nodule_classifier 0.0.1 [plain]",
        "2 epochs of 4000 training samples, 8 validation samples, batches of 4",
        "epoch 1/2 training: 1000 batches in 1.2 s, 4.0 % waiting for data",
        "epoch 1/2 training: loss 0.5000, auc undefined",
        "nodule_classifier 0.0.1 is trained (research use only)",
    ]


def test_a_long_pass_speaks_up_every_now_and_then():
    lines, seconds = [], iter(range(0, 10_000, 7))
    handlers = ConsoleHandlers(write_line=lines.append, seconds_between_lines=30, clock=lambda: next(seconds))
    send(handlers, epoch_of(10))

    assert [line for line in lines if "% (" in line] == [
        "epoch 1/2 training: 50 % (5 of 10 batches), loss 0.5000",
        "epoch 1/2 training: 100 % (10 of 10 batches), loss 0.5000",
    ]


def test_no_colour_codes_without_a_terminal():
    out = io.StringIO()
    send(ConsoleHandlers(console=Console(file=out)), epoch_of(3))
    assert ESCAPE not in out.getvalue()


def test_a_terminal_gets_a_bar_that_goes_away():
    out = io.StringIO()
    handlers = ConsoleHandlers(console=Console(file=out, force_terminal=True, width=80))
    send(handlers, epoch_of(3))

    assert ESCAPE in out.getvalue()
    assert "epoch 1/2 training" in out.getvalue()
    handlers.close()


@pytest.mark.parametrize("seconds", [0.0, 30.0])
def test_the_last_message_gives_the_terminal_back_even_in_mid_pass(seconds):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    handlers = ConsoleHandlers(console=console, seconds_between_lines=seconds)
    handlers.show_pass_start(LogBatchStart(epoch=1, mode=Mode.TRAINING, num_batches=2))
    handlers.close()

    # rich hides the cursor while a bar moves.
    assert out.getvalue().count(f"{ESCAPE}[?25h") == 1


def test_a_profile_is_its_table_and_where_the_trace_lies():
    lines = []
    message = LogProfile(table="operator  ms\nconv3d    12", trace_file="logs/a.pt.trace.json", waiting_share=0.031)
    send(ConsoleHandlers(write_line=lines.append), [message])
    assert lines == [
        "operator  ms",
        "conv3d    12",
        "3.1 % of the profiled time waiting for data; the trace is logs/a.pt.trace.json",
    ]


def test_a_pass_of_no_time_waited_for_nothing():
    assert plain_share(0.0, 0.0) == "0.0 %"
