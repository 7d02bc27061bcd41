"""The error of unreadable CTs."""

import contextlib
from collections.abc import Iterator


class UnreadableCtError(ValueError):
    """A CT cannot be used; the message is one line: the rule, the value got, which series, what to do."""


@contextlib.contextmanager
def naming_series(series_instance_uid: str) -> Iterator[None]:
    """Convert a ValueError of a grid or value into an UnreadableCtError that names the series."""
    try:
        yield
    except UnreadableCtError:
        raise
    except ValueError as error:
        raise UnreadableCtError(f"{error} (series {series_instance_uid})") from error


def one_line(error: BaseException, *, limit: int = 300) -> str:
    """Return an ITK error's message as a single line, without the location in ITK's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception thrown in"):
        lines = lines[1:]
    return " ".join(lines)[:limit].rstrip(".")
