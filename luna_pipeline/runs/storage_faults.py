"""Dagster's storage that fails under a run: one line that names the folder, instead of Dagster's tracebacks."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage

_GOT = {
    "readonly database": "one that is read-only",
    "disk is full": "a full disk",
    "disk I/O error": "a disk that fails",
    "database is locked": "a database that another process has locked for a minute",
    "no such table": "one that was deleted and made again",
    "NoSuchTableError": "one that was deleted and made again",
}
"""What was found, by words of SQLite's error."""
_MIN_FREE_BYTES = 1 << 20
_TERMINAL: list[int] = []
"""Copy of stderr from before a step, during which Dagster captures it in a file below DAGSTER_HOME."""


@contextlib.contextmanager
def storage_guard(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Give a run up if an error leaves the block and Dagster's storage is the reason.

    Dagster could not record the failure. It would print several tracebacks and leave the run as it is.
    """
    try:
        yield
    except Exception:
        if fault := storage_fault(instance, run_id):
            give_up(run_id, fault)
        raise


@contextlib.contextmanager
def guarded_events(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Guard each event and log line that Dagster stores in the block, before an error of it becomes a step's."""
    handle, is_outermost = instance.handle_new_event, not _TERMINAL
    if is_outermost:
        _TERMINAL.append(os.dup(2))

    def handle_or_give_up(*arguments: Any, **options: Any) -> None:
        with storage_guard(instance, run_id):
            handle(*arguments, **options)

    instance.handle_new_event = handle_or_give_up  # type: ignore[method-assign]
    try:
        with storage_guard(instance, run_id):
            yield
    finally:
        # A nested run restores that of its outer run.
        instance.handle_new_event = handle  # type: ignore[method-assign]
        if is_outermost:
            os.close(_TERMINAL.pop())


def storage_fault(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Read and write Dagster's storage; return the line for its error, or None if it works."""
    try:
        if instance.get_run_by_id(run_id) is None:
            raise LookupError("no such table with the run")
        instance.get_records_for_run(run_id, limit=1)
        instance.daemon_cursor_storage.set_cursor_values({"luna/storage_probe": run_id})
    except Exception as error:
        return describe_fault(instance, error)
    return None


def describe_fault(instance: dg.DagsterInstance, error: Exception) -> str:
    """Return the line for an error of Dagster's storage."""
    cause = getattr(error, "orig", None) or error
    text = f"{type(cause).__name__}: {cause}".split("\n", maxsplit=1)[0]
    kept = "Run the job again afterwards: files that are finished are kept."
    if not isinstance(instance.event_log_storage, SqliteEventLogStorage):
        return f"Dagster's storage must answer until the run ends, got {text}. Start it. {kept}"
    rule = "DAGSTER_HOME must be a writable folder with free space until the run ends"
    home = instance.root_directory
    if not os.path.isdir(home) or not os.listdir(home):
        got = "one that was deleted"
    # SQLite's error of a full disk may be that of input and output.
    elif shutil.disk_usage(home).free < _MIN_FREE_BYTES:
        got = "a full disk"
    else:
        got = next((got for words, got in _GOT.items() if words in text), text)
    return f"{rule}, got {got} ({home}). Correct that, or set DAGSTER_HOME to another folder. {kept}"


def give_up(run_id: str, reason: str) -> NoReturn:
    """End this process and its children at once; files are safe, because they are written atomically."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    line = f"Run {run_id} is given up by process {os.getpid()}. {reason}"
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
    # Dagster's process that copies the captured file to the terminal was killed above.
    if _TERMINAL and not os.path.sameopenfile(2, _TERMINAL[0]):
        os.write(_TERMINAL[0], f"{line}\n".encode())
    os._exit(1)
