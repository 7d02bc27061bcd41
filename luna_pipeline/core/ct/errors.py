"""What goes wrong with a CT's files."""

import contextlib
from collections.abc import Iterator


class UnreadableCtError(ValueError):
    """A CT cannot be used; the message is one line: the rule, the value got, which series, what to do."""


@contextlib.contextmanager
def naming_series(series_instance_uid: str) -> Iterator[None]:
    """Turn a refused grid or value into a refused CT that is named."""
    try:
        yield
    except UnreadableCtError:
        raise
    except ValueError as error:
        msg = f"{error} (series {series_instance_uid})"
        raise UnreadableCtError(msg) from error


def one_line(error: BaseException, *, limit: int = 300) -> str:
    """Return an ITK error's own words: a single line without the place in ITK's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception thrown in"):
        lines = lines[1:]
    return " ".join(lines)[:limit].rstrip(".")
