"""Real processes in tests: each starts a new session, tests wait for conditions, and all are killed at the end."""

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]


def wait_for(
    condition: Callable[[], object], *, limit_seconds: float, what: str, every_seconds: float = 0.05
) -> object:
    """Return the first true value of ``condition``; fail when the limit is reached.

    A condition that asks a server or starts a process is evaluated less often: at most a fifth of the time, with pauses
    of at most two seconds. Otherwise it takes the processor from what is awaited.
    """
    deadline = time.monotonic() + limit_seconds
    while (began := time.monotonic()) < deadline:
        if value := condition():
            return value
        time.sleep(max(every_seconds, min(2.0, 4 * (time.monotonic() - began))))
    msg = f"{what} did not happen within {limit_seconds} s"
    raise AssertionError(msg)


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def in_four_processes(call: Callable[..., object], arguments: Iterable[tuple[object, ...]]) -> list[object]:
    """Return what the calls return, each made in one of four forked processes.

    The processes end without a signal: Dagster, once it has run in this process, handles SIGTERM, and a forked process
    that gets SIGTERM just before it starts to wait would never end.
    """
    with multiprocessing.get_context("fork").Pool(4) as pool:
        results = pool.starmap(call, arguments, chunksize=1)
        pool.close()
        pool.join()
    return results


@contextlib.contextmanager
def started(arguments: list[str], *, environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of the virtual environment; processes of it that are left at the end are killed."""
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments,
            cwd=REPOSITORY,
            env={**os.environ, "PATH": search, "PYTHONWARNINGS": "ignore", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for left in session_of(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()


def session_of(leader: int) -> list[psutil.Process]:
    """Return the living processes of the session that ``leader`` opened."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
