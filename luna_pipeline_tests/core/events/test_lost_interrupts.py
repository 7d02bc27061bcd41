"""An interrupt that arrives in a finalizer is delivered again."""

import signal
import time
import weakref

import pytest

from luna_pipeline.core.events.lost_interrupts import redelivered_interrupts


class Stopped(BaseException):
    """Orchestrators interrupt with exceptions that are not an ``Exception``."""


@pytest.fixture
def handled(monkeypatch):
    def stop(*_arguments):
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


class Finalized:
    """Raises a signal when it is collected."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def drop_one_with_a_callback() -> None:
    one = type("One", (), {})()
    one.reference = weakref.ref(one, lambda _: signal.raise_signal(signal.SIGTERM))
    keep, one.reference = one.reference, None
    del one
    del keep


def drop_one_with_a_finalizer() -> None:
    Finalized()


def work_after(collect, steps: list[int]) -> None:
    collect()
    for step in range(500):
        steps.append(step)
        time.sleep(0.01)


@pytest.mark.parametrize("collect", [drop_one_with_a_finalizer, drop_one_with_a_callback])
def test_an_interrupt_in_a_finalizer_ends_the_run_soon(handled, collect):
    steps: list[int] = []
    with pytest.raises(Stopped), redelivered_interrupts():
        work_after(collect, steps)
    assert 0 < len(steps) < 500


def test_another_error_of_a_finalizer_goes_to_the_hook_of_before(monkeypatch):
    class Broken:
        def __del__(self) -> None:
            raise ValueError("broken")

    seen = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
    with redelivered_interrupts():
        Broken()
    assert seen == [ValueError]
