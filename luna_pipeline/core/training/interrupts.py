"""Interrupts that are postponed to the end of a training step, when the state of the run is consistent."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MAX_SECONDS = 50.0
"""Longest time that an interrupt is postponed: a step may wait forever for a batch."""


class PostponedInterrupts:
    """Context that postpones Ctrl-C and SIGTERM, so that a checkpoint can be written first.

    ``deliver`` and the end of the context pass a postponed signal to its original handler. A second signal is not
    postponed, and none longer than MAX_SECONDS. Ignored signals stay ignored. Outside the main thread, which alone
    receives signals, the context has no effect.
    """

    def __init__(self) -> None:
        self._handlers: dict[signal.Signals, Any] = {}
        self._postponed: signal.Signals | None = None
        self._timer: threading.Timer | None = None

    @property
    def is_pending(self) -> bool:
        """Whether a signal is postponed."""
        return self._postponed is not None

    def deliver(self) -> None:
        """Pass the postponed signal, if any, to its original handler."""
        if self._postponed is not None:
            number, self._postponed = self._postponed, None
            self._handle(number, None)

    def release(self) -> None:
        """Stop postponing, and deliver a postponed signal."""
        self._restore_handlers()
        self.deliver()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):
                    self._handlers[number] = handler
                    signal.signal(number, self._postpone)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore_handlers()
        if error is None:
            self.deliver()

    def _restore_handlers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _postpone(self, number: int, frame: FrameType | None) -> None:
        if self._postponed is not None:
            self._handle(signal.Signals(number), frame)
        self._postponed = signal.Signals(number)
        if self._timer is None:
            self._timer = threading.Timer(MAX_SECONDS, os.kill, (os.getpid(), number))
            self._timer.daemon = True
            self._timer.start()

    def _handle(self, number: signal.Signals, frame: FrameType | None) -> None:
        handler = self._handlers[number]
        if callable(handler):
            call: Callable[[int, FrameType | None], Any] = handler
            call(number, frame)
        else:
            signal.signal(number, handler)
            os.kill(os.getpid(), number)
