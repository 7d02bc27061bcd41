"""Logs of the service's processes: one line an event on standard error, with nothing of a patient.

The project's own messages are written so that they hold no value from outside. Messages of other packages and the
texts of exceptions may hold anything: file names, tag values, titles. Of those only kind and place are logged. With
``LUNA_DEBUG`` they are logged in full, which is for test data.
"""

import logging
import os
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any

OWN = "luna_pipeline"
"""Logger whose messages, and those of its children, are logged as they are."""

_MAX_CAUSES = 5
_LINE = "%(asctime)sZ %(levelname)s %(name)s: %(message)s"


def set_up_logs(*, level: int = logging.INFO) -> None:
    """Log everything of this process by one handler on standard error, warnings and uncaught exceptions included.

    Records lose texts from outside when they are created, so that a handler which a package adds later has none either.

    Args:
        level: Least level of the project's own messages; that of others is a warning.
    """
    shows_all = bool(os.environ.get("LUNA_DEBUG"))
    logging.setLogRecordFactory(logging.LogRecord if shows_all else quiet_record)
    formatter = logging.Formatter(_LINE, datefmt="%Y-%m-%dT%H:%M:%S")
    # Class attributes that are functions would be bound as methods.
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in logging.root.manager.loggerDict:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    logging.getLogger(OWN).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def quiet_record(*args: Any, **options: Any) -> logging.LogRecord:
    """Create a log record, as ``logging.LogRecord``, without texts from outside, and with a message of one line."""
    record = logging.LogRecord(*args, **options)
    if not (record.name == OWN or str(record.name).startswith(f"{OWN}.")):
        record.msg, record.args = f"message at {record.filename}:{record.lineno}", ()
    record.msg, record.args = "".join(_escaped(char) for char in record.getMessage()), ()
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        record.exc_text = describe_exception(error)
    record.exc_info = record.stack_info = None
    return record


def describe_exception(error: BaseException) -> str:
    """Return kinds and places of an exception and its causes, in several lines, without their texts."""
    lines: list[str] = []
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if cause is None:
            break
        lines += ["caused by:"] if lines else []
        frames = traceback.extract_tb(cause.__traceback__)
        lines += [f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}' for frame in frames]
        lines.append(type(cause).__qualname__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n".join(lines)


def _uncaught(kind: type[BaseException], error: BaseException | None, place: TracebackType | None) -> None:
    logging.getLogger(OWN).error("An exception was not caught.", exc_info=(kind, error or kind(), place))


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape", errors="replace").decode()
