"""Interrupts that wait for a moment at which everything fits together: the end of a training step."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class PostponedInterrupts:
    """Within, Ctrl-C and SIGTERM are noted instead of raised, so that a checkpoint can be written first.

    What was noted is raised as it would have been by ``deliver``, and at the end at the latest. A second one is not
    postponed: it interrupts at once. Outside the main thread, which alone gets signals, nothing is changed;
    a signal that is ignored stays ignored.
    """

    def __init__(self) -> None:
        self._handlers: dict[signal.Signals, Any] = {}
        self._noted: signal.Signals | None = None

    @property
    def is_pending(self) -> bool:
        """Whether one waits to be raised."""
        return self._noted is not None

    def deliver(self) -> None:
        """Raise the one that waits, as it would have been raised without this class; else do nothing."""
        if self._noted is not None:
            noted, self._noted = self._noted, None
            self._hand_over(noted, None)

    def release(self) -> None:
        """Postpone nothing from here on, and raise what waits."""
        self._give_back()
        self.deliver()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()
        if error is None:
            self.deliver()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted is not None:
            self._hand_over(signal.Signals(number), frame)
        self._noted = signal.Signals(number)

    def _hand_over(self, number: signal.Signals, frame: FrameType | None) -> None:
        handler = self._handlers[number]
        if callable(handler):
            call: Callable[[int, FrameType | None], Any] = handler
            call(number, frame)
        else:
            signal.signal(number, handler)
            os.kill(os.getpid(), number)
