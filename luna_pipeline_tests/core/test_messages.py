import logging

import numpy as np
import pytest

from luna_pipeline.core.messages import (
    LogMetrics,
    LogModel,
    LogResult,
    LogStart,
    MessageHandler,
    Mode,
    UndeliveredMessagesError,
)


def start(description="run"):
    return LogStart(description=description)


def model():
    return LogModel(name="classification", version="0.0.1", checkpoint=None, module=None, signature=None)


class Listener:
    """Takes messages while it is up."""

    def __init__(self, *, is_up=True):
        self.taken, self.is_up = [], is_up

    def __call__(self, message):
        if not self.is_up:
            raise ConnectionError("no tracker")
        self.taken.append(message)


def test_a_message_goes_to_every_handler_of_its_type_in_order_and_to_no_other():
    order, other = [], Listener()
    first, second = (lambda message, name=name: order.append(name) for name in ("first", "second"))
    handler = MessageHandler({LogStart: [first, second], LogMetrics: [other]})
    handler.handle_message(start())
    assert (order, other.taken) == (["first", "second"], [])


def test_a_type_without_handlers_passes():
    other = Listener()
    handler = MessageHandler({LogMetrics: [other]})
    handler.handle_message(start())
    handler.close()
    assert other.taken == []


def test_what_a_handler_missed_is_handed_over_later_in_its_order():
    listener = Listener(is_up=False)
    handler = MessageHandler({LogStart: [listener]})
    messages = [start(name) for name in "abc"]
    handler.handle_message(messages[0])
    handler.handle_message(messages[1])
    listener.is_up = True
    handler.handle_message(messages[2])
    assert listener.taken == messages


def test_a_handler_that_fails_takes_nothing_from_the_others(caplog):
    failing, other = Listener(is_up=False), Listener()
    with caplog.at_level(logging.WARNING):
        MessageHandler({LogStart: [failing, other]}).handle_message(start())
    assert len(other.taken) == 1
    assert "LogStart could not be logged and waits with 0 others: no tracker" in caplog.text


def test_closing_hands_over_what_still_waits():
    listener = Listener(is_up=False)
    handler = MessageHandler({LogStart: [listener]})
    handler.handle_message(start())
    listener.is_up = True
    handler.close()
    handler.close()
    assert len(listener.taken) == 1


@pytest.mark.seed_defect(63)
def test_closing_fails_where_messages_are_lost():
    handler = MessageHandler({LogStart: [Listener(is_up=False)]})
    handler.handle_message(start("a"))
    handler.handle_message(start("b"))
    with pytest.raises(UndeliveredMessagesError, match=r"Every message must be logged, got 2 by .*: no tracker"):
        handler.close()


@pytest.mark.seed_defect(63)
def test_a_model_that_cannot_be_kept_fails_the_run():
    handler = MessageHandler({LogModel: [Listener(is_up=False)]})
    with pytest.raises(ConnectionError, match="no tracker"):
        handler.handle_message(model())


def test_an_interrupt_in_a_handler_passes():
    def interrupt(message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MessageHandler({LogStart: [interrupt]}).handle_message(start())


@pytest.mark.seed_defect(44)
def test_values_of_a_batch_and_of_an_epoch_are_messages_of_two_types():
    where = {"epoch": 1, "mode": Mode.TRAINING, "num_samples_seen": 5}
    result = LogResult(labels=np.zeros(1, dtype=np.int64), scores=np.zeros(1), **where)
    listener = Listener()
    handler = MessageHandler({LogMetrics: [listener]})
    handler.handle_message(result)
    handler.handle_message(LogMetrics(values={"loss": 0.5}, **where))
    assert [type(message) for message in listener.taken] == [LogMetrics]
