"""Messages on their way to one tracker: in order, kept through an outage, tried again with growing pauses."""

import logging
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

_log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
SECONDS_BETWEEN_LINES = 30.0


class TrackerUnavailableError(ConnectionError):
    """A tracker cannot be reached now, and may be later; a handler raises it for an outage."""


# A handler of a user's own need not know the class above: Python's own errors of connections say the same.
OUTAGES = (ConnectionError, TimeoutError)


def without_password(text: str) -> str:
    """Return a text whose addresses bear neither user nor password."""
    return re.sub(r"://[^/@\s]+@", "://", text)


class Deliverable(Protocol):
    """What can be handed over."""

    @property
    def must_succeed(self) -> bool:
        """Whether the run fails where it cannot be handed over."""


@dataclass(eq=False)
class Outbox:
    """Messages for one tracker, in their order.

    In an outage all messages wait, and an attempt is made at most once a pause. A message that the tracker refuses
    for another reason stands aside, so that it holds up no other, and is tried once more at the end.

    Attributes:
        name: Of the tracker, for reports.
        clock: Seconds that only grow.
        sleep: Waits so many seconds.
        is_given_up: An outage outlasted all patience.
    """

    name: str
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    is_given_up: bool = field(default=False, init=False)
    _waiting: deque[tuple[Callable[[Any], None], Deliverable]] = field(default_factory=deque, init=False)
    _refused: list[tuple[Callable[[Any], None], Deliverable]] = field(default_factory=list, init=False)
    _pause_seconds: float = field(default=0.0, init=False)
    _next_attempt_at: float = field(default=0.0, init=False)
    _num_late: int = field(default=0, init=False)
    _last_refusal: str = field(default="", init=False)

    def take(self, handler: Callable[[Any], None], message: Deliverable, *, patience_seconds: float) -> None:
        """Hand a message over, now or later; one that must succeed now, or within the patience.

        Raises:
            Exception: What the handler raised on a message that must succeed; such a message is not kept.
        """
        self._waiting.append((handler, message))
        if message.must_succeed:
            try:
                self.hand_over_within(patience_seconds)
            except BaseException:
                # The run fails or was interrupted: what it would have led to is not to appear at its close.
                if self._waiting and self._waiting[-1][1] is message:
                    self._waiting.pop()
                raise
        elif not self._is_away or self.clock() >= self._next_attempt_at:
            self._attempt()

    def close(self, *, patience_seconds: float) -> str:
        """Hand over what waits and what was refused.

        Returns:
            What is still there and why; nothing where all is handed over.
        """
        self._waiting.extend(self._refused)
        self._refused.clear()
        self._last_refusal = ""
        reason = ""
        try:
            self.hand_over_within(0.0 if self.is_given_up else patience_seconds)
        except OUTAGES as error:
            reason = str(error)
        num_left = len(self._waiting) + len(self._refused)
        return f"{num_left} by {self.name}: {reason or self._last_refusal}" if num_left else ""

    def hand_over_within(self, patience_seconds: float) -> None:
        """Try until everything is handed over.

        Raises:
            ConnectionError: If the tracker is away until the end of the patience.
            TimeoutError: Likewise.
            Exception: What the handler raised on a message that must succeed.
        """
        deadline = self.clock() + patience_seconds
        next_line_at = self.clock()
        while (outage := self._attempt()) is not None:
            left_seconds = deadline - self.clock()
            if left_seconds <= 0:
                self.is_given_up = True
                raise outage
            if self.clock() >= next_line_at:
                next_line_at = self.clock() + SECONDS_BETWEEN_LINES
                text = "%d messages still wait for %s; it is tried for %.0f s more."
                _log.warning(text, len(self._waiting), self.name, left_seconds)
            self.sleep(min(self._pause_seconds, left_seconds))

    @property
    def _is_away(self) -> bool:
        return self._pause_seconds > 0

    def _attempt(self) -> Exception | None:
        """Hand over in order; return the outage that ended that."""
        while self._waiting:
            handler, message = self._waiting[0]
            try:
                handler(message)
            except OUTAGES as outage:
                self._note_outage(outage)
                return outage
            except Exception as error:
                self._waiting.popleft()
                if message.must_succeed:
                    raise
                self._refused.append((handler, message))
                self._report_refusal(message, error)
            else:
                self._waiting.popleft()
                # What came when the tracker was known to be away, and what showed that, is late.
                self._num_late += self._is_away
        self._note_return()
        return None

    def _note_outage(self, outage: Exception) -> None:
        if not self._is_away:
            _log.warning("%s is away, its messages wait and are handed over later: %s", self.name, outage)
        self._pause_seconds = min(max(FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), LONGEST_PAUSE_SECONDS)
        self._next_attempt_at = self.clock() + self._pause_seconds

    def _note_return(self) -> None:
        if self._is_away:
            _log.warning("%s is back, %d messages handed over late", self.name, self._num_late)
        self._pause_seconds, self._num_late, self.is_given_up = 0.0, 0, False

    def _report_refusal(self, message: Deliverable, error: Exception) -> None:
        reason = f"{type(error).__name__}: {without_password(str(error))}"
        # A tracker that takes no message at all would fill the log otherwise.
        if reason != self._last_refusal:
            text = "%s refused a %s, which is tried once more at the end: %s"
            _log.warning(text, self.name, type(message).__name__, reason)
        self._last_refusal = reason
