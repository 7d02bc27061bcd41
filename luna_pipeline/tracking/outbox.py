"""Delivery of messages to trackers that may be unavailable for a while, such as an MLflow server."""

import logging
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from luna_pipeline.core.events.messages import Handler, Message, MessageHandler

_log = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
SECONDS_BETWEEN_LINES = 30.0
# While training continues.
SECONDS_BETWEEN_REMINDERS = 300.0


class TrackerUnavailableError(ConnectionError):
    """A tracker cannot be reached now, but may be later; handlers raise it during an outage."""


class UndeliveredMessagesError(RuntimeError):
    """Messages that could not be sent to a tracker by the end of the run."""


# Users' handlers may raise Python's errors instead of the class above.
OUTAGES = (ConnectionError, TimeoutError)


def without_password(text: str) -> str:
    """Return a text without the user names and passwords of its addresses."""
    return re.sub(r"://[^/@\s]+@", "://", text)


@dataclass
class RetryingMessageHandler(MessageHandler):
    """Passes each message to the handlers of its type, and queues it if their tracker is unavailable.

    A tracker is unavailable if its handler raises ``TrackerUnavailableError``, ``ConnectionError`` or
    ``TimeoutError``. Training continues; its messages are queued in order and sent once it is available again. Only
    messages that must succeed, and ``close``, wait for it. Handlers that are methods of one object are one tracker.

    Attributes:
        handlers: Handlers by message type. Types without an entry are ignored.
        patience_seconds: How long to wait for an unavailable tracker.
        clock: Returns monotonic seconds.
        sleep: Waits for some seconds; an interrupt ends it.
    """

    patience_seconds: float = PATIENCE_SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _outboxes: dict[int, "Outbox"] = field(default_factory=dict, init=False)

    def handle_message(self, message: Message) -> None:
        """Pass a message to the handlers of its type.

        Raises:
            Exception: The error of a handler if the message must succeed; during an outage after the patience.
        """
        for handler in self.handlers.get(type(message), ()):
            self._outbox_of(handler).send(handler, message, patience_seconds=self.patience_seconds)

    def close(self, error: BaseException | None = None) -> None:
        """Send the messages that are still queued.

        Args:
            error: The error or interrupt that ends the run: unsent messages are then reported as a note of it. After
                an interrupt each tracker is tried once, without waiting.

        Raises:
            UndeliveredMessagesError: If a tracker stays unavailable, or rejects a message again.
        """
        is_interrupted = error is not None and not isinstance(error, Exception)
        deadline = self.clock() + (0.0 if is_interrupted else self.patience_seconds)
        left = [box.close(patience_seconds=deadline - self.clock()) for box in self._outboxes.values()]
        if not (undelivered := "; ".join(filter(None, left))):
            return
        msg = f"Every message must be logged, got {undelivered}. Check the tracker and run again."
        if error is None:
            raise UndeliveredMessagesError(msg)
        error.add_note(msg)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(error)

    def _outbox_of(self, handler: Handler) -> "Outbox":
        tracker = getattr(handler, "__self__", handler)
        if id(tracker) not in self._outboxes:
            name = getattr(tracker, "__qualname__", type(tracker).__name__)
            self._outboxes[id(tracker)] = Outbox(name, clock=self.clock, sleep=self.sleep)
        return self._outboxes[id(tracker)]


@dataclass(eq=False)
class Outbox:
    """Queue of messages for one tracker.

    During an outage all messages wait, with at most one attempt per pause. A message that is rejected for another
    reason is set aside and retried once at the end.

    Attributes:
        name: Name of the tracker in log lines.
        clock: Returns monotonic seconds.
        sleep: Waits for some seconds.
        is_given_up: Whether an outage lasted longer than the patience.
    """

    name: str
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    is_given_up: bool = field(default=False, init=False)
    _queue: deque[tuple[Handler, Message]] = field(default_factory=deque, init=False)
    _rejected: list[tuple[Handler, Message]] = field(default_factory=list, init=False)
    _pause_seconds: float = field(default=0.0, init=False)
    _next_attempt_at: float = field(default=0.0, init=False)
    _num_late: int = field(default=0, init=False)
    _reminded_at: float = field(default=0.0, init=False)
    _last_rejection: str = field(default="", init=False)

    def send(self, handler: Handler, message: Message, *, patience_seconds: float) -> None:
        """Send a message now or later; one that must succeed now, or within the patience.

        Raises:
            Exception: The handler's error on a message that must succeed; such a message is not queued.
        """
        self._queue.append((handler, message))
        if message.must_succeed:
            try:
                self._send_all(patience_seconds)
            except BaseException:
                # The run fails or was interrupted: ``close`` must not send its model.
                if self._queue and self._queue[-1][1] is message:
                    self._queue.pop()
                raise
        elif not self._is_away or self.clock() >= self._next_attempt_at:
            self._attempt()

    def close(self, *, patience_seconds: float) -> str:
        """Send the queued and the rejected messages; return how many are left and why, or an empty string."""
        self._queue.extend(self._rejected)
        self._rejected.clear()
        self._last_rejection = reason = ""
        try:
            self._send_all(0.0 if self.is_given_up else patience_seconds)
        except OUTAGES as error:
            reason = str(error)
        num_left = len(self._queue) + len(self._rejected)
        return f"{num_left} not sent to {self.name}: {reason or self._last_rejection}" if num_left else ""

    def _send_all(self, patience_seconds: float) -> None:
        """Retry until the queue is empty; raises the outage if it lasts longer than the patience."""
        deadline = self.clock() + patience_seconds
        next_line_at = self.clock()
        while (outage := self._attempt()) is not None:
            left_seconds = deadline - self.clock()
            if left_seconds <= 0:
                self.is_given_up = True
                raise outage
            if self.clock() >= next_line_at:
                next_line_at = self.clock() + SECONDS_BETWEEN_LINES
                text = "%d messages are queued for %s; retrying for %.0f s."
                _log.warning(text, len(self._queue), self.name, left_seconds)
            self.sleep(min(self._pause_seconds, left_seconds))

    @property
    def _is_away(self) -> bool:
        return self._pause_seconds > 0

    def _attempt(self) -> Exception | None:
        """Send in order; return the outage that stopped it."""
        while self._queue:
            handler, message = self._queue[0]
            try:
                handler(message)
            except OUTAGES as outage:
                self._note_outage(outage)
                return outage
            except Exception as error:
                self._queue.popleft()
                if message.must_succeed:
                    raise
                self._rejected.append((handler, message))
                self._report_rejection(message, error)
            else:
                self._queue.popleft()
                self._num_late += self._is_away
        if self._is_away:
            _log.warning("%s is available again; %d queued messages sent", self.name, self._num_late)
        self._pause_seconds, self._num_late, self.is_given_up = 0.0, 0, False
        return None

    def _note_outage(self, outage: Exception) -> None:
        if not self._is_away:
            _log.warning("%s is unavailable; its messages are queued and sent later: %s", self.name, outage)
            self._reminded_at = self.clock()
        elif self.clock() - self._reminded_at >= SECONDS_BETWEEN_REMINDERS:
            _log.warning("%s is still unavailable; %d messages are queued: %s", self.name, len(self._queue), outage)
            self._reminded_at = self.clock()
        self._pause_seconds = min(max(FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), LONGEST_PAUSE_SECONDS)
        self._next_attempt_at = self.clock() + self._pause_seconds

    def _report_rejection(self, message: Message, error: Exception) -> None:
        reason = f"{type(error).__name__}: {without_password(str(error))}"
        # One line for equal rejections in a row.
        if reason != self._last_rejection:
            text = "%s rejected a %s, which is retried once at the end: %s"
            _log.warning(text, self.name, type(message).__name__, reason)
        self._last_rejection = reason
