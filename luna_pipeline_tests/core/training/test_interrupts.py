import os
import signal
import threading
import time

import pytest

from luna_pipeline.core.training import interrupts
from luna_pipeline.core.training.interrupts import PostponedInterrupts


@pytest.fixture
def handled():
    """The delivered signals in order; handlers are restored afterwards."""
    seen = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda got, _frame: seen.append(got))
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_it_is_delivered(handled, number):
    with PostponedInterrupts() as interrupts:
        os.kill(os.getpid(), number)
        assert interrupts.is_pending
        assert handled == []
        interrupts.deliver()
        assert handled == [number]
        assert not interrupts.is_pending


def test_an_interrupt_that_nobody_delivered_comes_at_the_end(handled):
    with PostponedInterrupts():
        os.kill(os.getpid(), signal.SIGTERM)
    assert handled == [signal.SIGTERM]


def test_after_an_error_the_error_counts(handled):
    def fail_while_one_waits():
        with PostponedInterrupts():
            os.kill(os.getpid(), signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_one_waits()
    assert handled == []


def test_a_second_interrupt_is_not_postponed(handled):
    with PostponedInterrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert handled == [signal.SIGTERM]
        assert interrupts.is_pending


def test_after_release_nothing_is_postponed_and_what_waited_has_come(handled):
    with PostponedInterrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.release()
        assert handled == [signal.SIGINT]
        os.kill(os.getpid(), signal.SIGTERM)
        assert handled == [signal.SIGINT, signal.SIGTERM]


def test_handlers_are_as_before_afterwards(handled):
    before = signal.getsignal(signal.SIGINT)
    with PostponedInterrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_signal_stays_ignored(handled):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with PostponedInterrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert not interrupts.is_pending


def test_ctrl_c_is_pythons_own_where_nobody_handles_it(handled):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), PostponedInterrupts():
        os.kill(os.getpid(), signal.SIGINT)


def test_another_thread_changes_no_handler(handled):
    before, inside = signal.getsignal(signal.SIGINT), []

    def work():
        with PostponedInterrupts() as interrupts:
            inside.append((signal.getsignal(signal.SIGINT), interrupts.is_pending))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=10)
    assert inside == [(before, False)]


def interrupted_while(seconds: float) -> None:
    with PostponedInterrupts():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(seconds)


def test_an_interrupt_is_not_postponed_forever(monkeypatch):
    monkeypatch.setattr(interrupts, "MAX_SECONDS", 0.1)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted_while(20)
    assert time.monotonic() - started < 10


def test_an_interrupt_that_was_delivered_is_not_repeated(monkeypatch):
    monkeypatch.setattr(interrupts, "MAX_SECONDS", 0.1)
    with pytest.raises(KeyboardInterrupt):
        interrupted_while(0)
    time.sleep(0.3)
