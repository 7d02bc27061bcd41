"""What work on malformed inputs may cost: seconds, and memory of this process and of those that it started."""

import contextlib
import re
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

SECONDS = 60
NUM_BYTES = 3 << 29
"""1.5 GiB."""

_MESSAGE = re.compile(r".+\bgot\b.+\(.+\).*")


class TooMuchError(AssertionError):
    """Work took too long or too much memory."""


@contextlib.contextmanager
def limited(seconds: float = SECONDS, num_bytes: int = NUM_BYTES) -> Iterator[None]:
    """Fail where work takes more seconds or memory; work that waits for ever is interrupted."""

    def stop(_signal: int, _frame: object) -> None:
        msg = f"it took more than {seconds} s"
        raise TooMuchError(msg)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # The peak of the process is counted from here on.
    Path("/proc/self/clear_refs").write_text("5")
    start, children = _status("VmRSS"), _children()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    grown = _status("VmHWM") - start
    if grown > num_bytes or _children() > max(num_bytes, children):
        msg = f"it took {grown} bytes, and its processes {_children()}"
        raise TooMuchError(msg)


def complaint_of(text: str) -> str | None:
    """Return what is wrong with a message, None if it is one line with rule, value and place."""
    if "\n" in text or "Traceback" in text:
        return f"a message must be one line: {text[:600]!r}"
    if not _MESSAGE.fullmatch(text) or "unforeseen error" in text or len(text) > 1500:
        return f"a message must name rule, value and place: {text[:600]!r}"
    return None


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:"))) * 1024


def _children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
