"""When a failed transfer of a result is tried again, and when a client that found the queue full is to ask again."""

from collections.abc import Sequence
from statistics import median

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 5.0, 900.0
_LEAST_RETRY_SECONDS, _USUAL_RETRY_SECONDS, _MOST_RETRY_SECONDS = 1, 30, 600


def next_wait(number: int, *, now: float, since: float, hours: float) -> float | None:
    """Return the seconds to the next attempt, which double with each one up to 15 minutes; None after the last.

    Args:
        number: Number of attempts before the failed one.
        now: Seconds since the epoch.
        since: Time of the first attempt.
        hours: Time during which attempts are made.
    """
    wait_seconds = min(_FIRST_WAIT_SECONDS * 2 ** min(number, 10), _LONGEST_WAIT_SECONDS)
    return None if now + wait_seconds > since + hours * 3600 else wait_seconds


def retry_after(seconds: Sequence[float], *, num_workers: int) -> int:
    """Return the seconds after which a full queue is expected to have a place, from 1 to 600.

    Args:
        seconds: What each of the last diagnoses took; if there was none, 30 s is returned.
        num_workers: Number of diagnoses at a time.
    """
    expected = median(seconds) / num_workers if seconds else _USUAL_RETRY_SECONDS
    return round(min(max(expected, _LEAST_RETRY_SECONDS), _MOST_RETRY_SECONDS))
