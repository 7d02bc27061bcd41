"""Interrupts that Python ignores, because the signal arrived while a finalizer or a weak reference's callback ran."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

# The finalizer has returned by then.
SECONDS_TO_REDELIVERY = 0.02


@contextlib.contextmanager
def redelivered_interrupts() -> Iterator[None]:
    """Deliver such an interrupt again: a run that was told to end would otherwise continue to its end."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, (Exception, GeneratorExit)):
            before(unraisable)
            return
        timer = threading.Timer(SECONDS_TO_REDELIVERY, _interrupt_main_thread)
        timer.daemon = True
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt_main_thread() -> None:
    # A shell's background job ignores SIGINT.
    number = signal.SIGTERM if callable(signal.getsignal(signal.SIGTERM)) else signal.SIGINT
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, number)
