"""When a failed transfer of a result is tried again."""

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 5.0, 900.0


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
