"""Messages and their handlers."""

import time

import numpy as np
import pytest

from luna_pipeline.core.events.messages import LogMetrics, LogResult, LogStart, MessageHandler, Mode


def test_a_message_goes_to_every_handler_of_its_type_in_order_and_to_no_other():
    order, other = [], []
    first, second = (lambda message, name=name: order.append(name) for name in ("first", "second"))
    handler = MessageHandler({LogStart: [first, second], LogMetrics: [other.append]})
    handler.handle_message(LogStart(description="run"))
    assert (order, other) == (["first", "second"], [])


def test_a_type_without_handlers_passes():
    other = []
    handler = MessageHandler({LogMetrics: [other.append]})
    handler.handle_message(LogStart(description="run"))
    handler.close()
    assert other == []


def test_a_message_knows_when_it_happened_and_is_equal_to_one_said_later():
    before = time.time()
    first, second = (LogStart(description="run") for _ in range(2))
    assert before <= first.created_at <= second.created_at <= time.time()
    assert first == second


@pytest.mark.seed_defect(44)
def test_values_of_a_batch_and_of_an_epoch_are_messages_of_two_types():
    where = {"epoch": 1, "mode": Mode.TRAINING, "num_samples_seen": 5}
    result = LogResult(labels=np.zeros(1, dtype=np.int64), scores=np.zeros(1), **where)
    taken = []
    handler = MessageHandler({LogMetrics: [taken.append]})
    handler.handle_message(result)
    handler.handle_message(LogMetrics(values={"loss": 0.5}, **where))
    assert [type(message) for message in taken] == [LogMetrics]
