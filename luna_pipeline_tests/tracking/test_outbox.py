"""Delivery to trackers that are unavailable for a while, or reject messages."""

import logging

import pytest

from luna_pipeline.core.events.messages import LogMetrics, LogModel, LogStart, MessageHandler, Mode
from luna_pipeline.core.training.services import ServiceContainer
from luna_pipeline.tracking.outbox import RetryingMessageHandler, TrackerUnavailableError, UndeliveredMessagesError


def start(description="run"):
    return LogStart(description=description)


def metrics():
    return LogMetrics(epoch=1, mode=Mode.TRAINING, num_samples_seen=5, values={"loss": 0.5})


def model():
    return LogModel(name="classification", version="0.0.1", checkpoint=None, module=None, signature=None)


class Listener:
    """Takes messages while it is up, or from the time ``away_until`` of the clock."""

    def __init__(self, *, is_up=True, clock=None, away_until=0.0):
        self.taken, self.is_up, self.num_calls = [], is_up, 0
        self.clock, self.away_until = clock, away_until

    def __call__(self, message):
        self.num_calls += 1
        if not self.is_up or (self.clock is not None and self.clock() < self.away_until):
            raise TrackerUnavailableError("no tracker")
        self.taken.append(message)


class Clock:
    """Time passes only in ``sleep``."""

    def __init__(self):
        self.now, self.pauses = 1000.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def patient(handlers, clock, **options):
    return RetryingMessageHandler(handlers, clock=clock, sleep=clock.sleep, **options)


def test_what_a_tracker_missed_is_handed_over_later_in_its_order(clock):
    listener = Listener(is_up=False)
    handler = patient({LogStart: [listener]}, clock)
    messages = [start(name) for name in "abc"]
    handler.handle_message(messages[0])
    handler.handle_message(messages[1])
    listener.is_up, clock.now = True, clock.now + 1
    handler.handle_message(messages[2])
    assert listener.taken == messages


def test_a_tracker_that_is_away_is_asked_once_a_pause_and_the_pauses_grow_to_half_a_minute(clock):
    listener, attempts = Listener(is_up=False), []
    handler = patient({LogStart: [listener]}, clock)
    for second in range(200):
        before = listener.num_calls
        handler.handle_message(start())
        attempts += [second] * (listener.num_calls - before)
        clock.now += 1
    assert attempts == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]
    assert clock.pauses == []


def test_a_long_outage_is_reported_again_every_five_minutes_while_training_continues(clock, caplog):
    handler = patient({LogStart: [Listener(clock=clock, away_until=1000 + 910)]}, clock)
    for _ in range(1000):
        handler.handle_message(start())
        clock.now += 1
    lines = [record.getMessage() for record in caplog.records]
    assert [" is still unavailable; " in line for line in lines] == [False, True, True, True, False]
    assert lines[1] == "Listener is still unavailable; 302 messages are queued: no tracker"


def test_an_outage_is_two_warnings_however_many_messages_wait(clock, caplog):
    listener = Listener(clock=clock, away_until=1060)
    handler = patient({LogStart: [listener]}, clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            handler.handle_message(start())
            clock.now += 1
    assert [record.getMessage() for record in caplog.records] == [
        "Listener is unavailable; its messages are queued and sent later: no tracker",
        "Listener is available again; 62 queued messages sent",
    ]
    assert len(listener.taken) == 100


def test_methods_of_one_object_are_one_tracker_with_one_order(clock):
    class Tracker(Listener):
        def take_start(self, message):
            self(message)

        def take_metrics(self, message):
            self(message)

    tracker = Tracker(is_up=False)
    handler = patient({LogStart: [tracker.take_start], LogMetrics: [tracker.take_metrics]}, clock)
    messages = [start(), metrics(), start()]
    for message in messages:
        handler.handle_message(message)
    assert tracker.num_calls == 1
    tracker.is_up = True
    handler.close()
    assert tracker.taken == messages


def test_a_tracker_that_is_away_takes_nothing_from_the_others(clock):
    away, other = Listener(is_up=False), Listener()
    patient({LogStart: [away, other]}, clock).handle_message(start())
    assert len(other.taken) == 1


def test_what_is_refused_holds_up_no_other_message_and_is_tried_once_more(clock, caplog):
    taken, is_full = [], [True]

    def refuse_b(message):
        if is_full[0] and message.description == "b":
            raise OSError("disk full")
        taken.append(message.description)

    handler = patient({LogStart: [refuse_b]}, clock)
    for name in "abc":
        handler.handle_message(start(name))
    assert taken == ["a", "c"]
    assert "rejected a LogStart, which is retried once at the end: OSError: disk full" in caplog.text
    is_full[0] = False
    handler.close()
    assert taken == ["a", "c", "b"]


def test_a_tracker_that_refuses_everything_is_reported_once_and_fails_the_end_without_waiting(clock, caplog):
    def refuse(message):
        raise ValueError("wrong key")

    handler = patient({LogStart: [refuse]}, clock)
    for _ in range(5):
        handler.handle_message(start())
    assert len(caplog.records) == 1
    with pytest.raises(UndeliveredMessagesError, match=r"got 5 not sent to .*refuse: ValueError: wrong key"):
        handler.close()
    assert clock.pauses == []


def test_closing_waits_for_a_tracker_that_is_away(clock, caplog):
    listener = Listener(clock=clock, away_until=1100)
    handler = patient({LogStart: [listener]}, clock)
    handler.handle_message(start())
    handler.close()
    handler.close()
    assert len(listener.taken) == 1
    assert clock.pauses == [2, 4, 8, 16, 30, 30, 30]
    assert caplog.text.count("1 messages are queued for Listener") == 4


@pytest.mark.seed_defect(63)
def test_closing_fails_where_messages_are_lost_after_all_patience(clock):
    handler = patient({LogStart: [Listener(is_up=False), Listener(is_up=False)]}, clock, patience_seconds=50)
    handler.handle_message(start("a"))
    handler.handle_message(start("b"))
    lost = r"Every message must be logged, got 2 not sent to .*: no tracker; 2 not sent to .*: no tracker"
    with pytest.raises(UndeliveredMessagesError, match=lost):
        handler.close()
    assert sum(clock.pauses) == 50


def test_a_model_waits_for_a_tracker_that_is_away_and_comes_after_what_was_said_before(clock):
    listener = Listener(clock=clock, away_until=1100)
    handler = patient({LogStart: [listener], LogModel: [listener]}, clock)
    messages = [start(), model()]
    for message in messages:
        handler.handle_message(message)
    assert listener.taken == messages


@pytest.mark.seed_defect(63)
def test_a_model_that_is_refused_fails_the_run_at_once(clock):
    def full(message):
        raise OSError("disk full")

    handler = patient({LogModel: [full]}, clock)
    with pytest.raises(OSError, match="disk full"):
        handler.handle_message(model())
    handler.close()
    assert clock.pauses == []


def test_after_a_model_waited_in_vain_nothing_waits_again_and_the_model_does_not_come_after_all(clock):
    listener = Listener(is_up=False)
    handler = patient({LogStart: [listener], LogModel: [listener]}, clock)
    handler.handle_message(start())
    with pytest.raises(TrackerUnavailableError, match="no tracker"):
        handler.handle_message(model())
    assert sum(clock.pauses) == 300
    with pytest.raises(UndeliveredMessagesError, match="got 1 not sent to Listener"):
        handler.close()
    assert sum(clock.pauses) == 300
    listener.is_up = True
    handler.close()
    assert listener.taken == [start()]


@pytest.mark.parametrize("error", [ConnectionResetError("cut"), TimeoutError("slow")])
def test_pythons_own_errors_of_connections_are_outages_too(clock, error):
    taken, errors = [], [error]

    def now_and_then(message):
        if errors:
            raise errors.pop()
        taken.append(message)

    patient({LogModel: [now_and_then]}, clock).handle_message(model())
    assert len(taken) == 1
    assert clock.pauses == [1]


@pytest.mark.parametrize(("error", "seconds_waited"), [(KeyboardInterrupt, 0), (SystemExit, 0), (ValueError, 300)])
def test_what_ends_the_run_is_what_is_raised_and_an_interrupt_is_not_kept_waiting(clock, error, seconds_waited):
    handler = patient({LogStart: [Listener(is_up=False)]}, clock)

    def run():
        with ServiceContainer() as services:
            services.register_context(MessageHandler, handler)
            handler.handle_message(start())
            raise error

    with pytest.raises(error) as caught:
        run()
    assert sum(clock.pauses) == seconds_waited
    assert "got 1 not sent to Listener: no tracker" in caught.value.__notes__[0]


def test_an_interrupt_ends_the_patience(clock):
    def interrupt(_seconds):
        raise KeyboardInterrupt

    listener = Listener(is_up=False)
    handler = RetryingMessageHandler({LogModel: [listener]}, clock=clock, sleep=interrupt)
    with pytest.raises(KeyboardInterrupt):
        handler.handle_message(model())
    listener.is_up = True
    handler.close()
    assert listener.taken == []


def test_an_interrupt_in_a_handler_passes():
    def interrupt(message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RetryingMessageHandler({LogStart: [interrupt]}).handle_message(start())
