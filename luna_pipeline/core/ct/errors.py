"""The error of unreadable CTs, and the reason that is given for any failure of a single series."""

import contextlib
import errno
import os
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from luna_pipeline.core.storage.regular_files import shown_name

# Errors of one file, not of the disk.
_OF_A_FILE = {
    errno.EACCES,
    errno.EINVAL,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.EPERM,
}
_NUM_NAMED = 3


class TransientFailure(str):
    """Reason of a failure that is not the series' own (disk, memory, lost worker): another attempt may succeed."""

    __slots__ = ()


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


def failure_of(error: Exception, series_instance_uid: str) -> str:
    """Return the reason, in one line, why a series failed: the door's rule for all work on one series at a time.

    A series that fails does not stop the others. What is raised for the file or the disk (ValueError, OSError) explains
    itself. A MemoryError is the series' own failure. Any other exception is a fault of the program, named as such; with
    ``LUNA_DEBUG`` in the environment, which ``--debug`` sets for worker processes too, its traceback is printed. The
    reason of the disk or of memory is a TransientFailure.
    """
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        rule = f"A series must fit into memory, got: {text or 'no memory left'} (series {series_instance_uid})."
        return TransientFailure(f"{rule} Check the sizes in its header, or give the process more memory.")
    if isinstance(error, OSError) and ", got" not in text and error.errno in _OF_A_FILE:
        name = shown_name(Path(os.fsdecode(error.filename or "a file")))
        rule = f"Files of a series must be readable, got: {error.strerror} ({name}, series {series_instance_uid})."
        reason = f"{rule} Check the file's name, its rights and its disk."
        return TransientFailure(reason) if error.errno == errno.EIO else reason
    if isinstance(error, OSError):
        return TransientFailure(text or type(error).__name__)
    # A ValueError of Python's own does not say what was got.
    if isinstance(error, UnreadableCtError) or (isinstance(error, ValueError) and ", got" in text):
        return text or type(error).__name__
    if os.environ.get("LUNA_DEBUG"):
        traceback.print_exception(error)
    kind = type(error).__name__
    rule = f"A series must be processed without an unforeseen error, got {kind}: {text[:200]}"
    return f"{rule} (series {series_instance_uid}). Report it as an issue with the output of --debug."


def name_series(reasons: Mapping[str, str]) -> str:
    """Return the first three series with their reasons, by uid, and how many more there are, in one line."""
    named = [f"series {uid}: {reason}" for uid, reason in sorted(reasons.items())[:_NUM_NAMED]]
    more = len(reasons) - len(named)
    return " | ".join([*named, f"and {more} more"] if more else named)
