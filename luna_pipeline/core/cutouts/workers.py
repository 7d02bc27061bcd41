"""Series by series, in this process or in several."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from types import ModuleType
from typing import TypeAlias

from luna_pipeline.core.cutouts.job import CutOutcome, SeriesJob

_SECONDS_BETWEEN_LOOKS = 0.5
_Jobs: TypeAlias = list[SeriesJob]


def run_jobs(jobs: Iterable[SeriesJob], *, workers: int = 1) -> Iterator[tuple[str, CutOutcome | str]]:
    """Cut series; one that fails does not stop the others.

    Args:
        jobs: The series.
        workers: Processes; each has one CT in memory at a time. 1 cuts in this process.

    Yields:
        Series uid and outcome, or the reason why it failed, as each is done.
    """
    if workers < 1:
        msg = f"Cutting needs a whole number of workers from 1, got {workers}. Give 1 or more."
        raise ValueError(msg)
    if workers == 1:
        for job in jobs:
            yield job.series_instance_uid, _attempt(job)
        return
    waiting = iter(jobs)
    # A worker that is killed breaks its pool. Which series killed it shows when each of those in work is cut alone.
    while suspects := (yield from _run_in_pool(waiting, workers)):
        for job in suspects:
            if (yield from _run_in_pool(iter([job]), 1)):
                uid = job.series_instance_uid
                yield uid, f"A worker must live until its series is cut, got one that was killed (series {uid})."


def _run_in_pool(jobs: Iterator[SeriesJob], workers: int) -> Generator[tuple[str, CutOutcome | str], None, _Jobs]:
    """Cut until all is done or the pool breaks, and return the jobs that were then in work."""
    # A fresh interpreter each: a fork would inherit the locks of Dagster's threads.
    context = multiprocessing.get_context("spawn")
    taken: _Jobs = []
    running: dict[Future[CutOutcome | str], SeriesJob] = {}
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with, initargs=(os.getpid(),)) as pool:
        try:
            while True:
                for job in islice(jobs, workers + 1 - len(running)):
                    taken.append(job)
                    with _without_main():
                        running[pool.submit(_attempt, job)] = job
                if not running:
                    return []
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result, job = future.result(), running.pop(future)
                    taken.remove(job)
                    yield job.series_instance_uid, result
        except BrokenProcessPool:
            return taken
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Let a new worker not import the program that was started, as Python would have it: Dagster takes a second."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _attempt(job: SeriesJob) -> CutOutcome | str:
    """Run a job; what is wrong with a series or a disk is its result, what is wrong with the code is raised."""
    try:
        return job.run()
    except (ValueError, OSError) as error:
        return " ".join(str(error).split())


def _end_with(parent: int) -> None:
    """Prepare a worker: Ctrl-C is the parent's matter, and without its parent a worker ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
