"""Cutting series in this process or in several."""

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
from typing import Protocol, TypeAlias

from luna_pipeline.core.ct.errors import TransientFailure, failure_of
from luna_pipeline.core.cutouts.job import CutOutcome, SeriesJob

_SECONDS_BETWEEN_CHECKS = 0.5
_Jobs: TypeAlias = list[SeriesJob]
_Result: TypeAlias = CutOutcome | str


class RunJobs(Protocol):
    """Runs cutting jobs: ``run_jobs``, or a replacement that uses other machines."""

    def __call__(
        self, jobs: Iterable[SeriesJob], *, workers: int | None = None
    ) -> Iterator[tuple[str, CutOutcome | str]]:
        """Cut series; yield each uid with its outcome, or the reason of its failure, when it is done."""


def run_jobs(jobs: Iterable[SeriesJob], *, workers: int | None = None) -> Iterator[tuple[str, CutOutcome | str]]:
    """Cut series; a failed one does not stop the others.

    Args:
        jobs: The series.
        workers: Processes including this one, each with one CT in memory at a time; None for one.

    Yields:
        Series uid and outcome, or the reason of its failure, when it is done.
    """
    workers = checked_workers(workers) or 1
    if workers == 1:
        for job in jobs:
            yield job.series_instance_uid, attempt(job)
        return
    waiting = iter(jobs)
    # A killed worker breaks its pool. To find the series that caused it, cut each unfinished one in its own process.
    while suspects := (yield from _run_with_helpers(waiting, workers - 1)):
        for job in suspects:
            yield job.series_instance_uid, _attempt_in_own_process(job)


def checked_workers(workers: int | None) -> int | None:
    """Return a valid number of workers, or None if none is given."""
    if workers is not None and workers < 1:
        msg = f"Cutting needs a whole number of workers from 1, got {workers}. Give 1 or more."
        raise ValueError(msg)
    return workers


def attempt(job: SeriesJob) -> CutOutcome | str:
    """Run a job and return its outcome, or the reason of its failure; no failure of a series stops the others."""
    try:
        return job.run()
    except Exception as error:
        return failure_of(error, job.series_instance_uid)


def killed(series_instance_uid: str) -> str:
    """Return the reason of failure of a series whose worker was killed."""
    rule = "A worker must live until its series is cut, got one that was killed"
    return TransientFailure(f"{rule} (series {series_instance_uid}).")


def _run_with_helpers(jobs: Iterator[SeriesJob], helpers: int) -> Generator[tuple[str, _Result], None, _Jobs]:
    """Cut here and in other processes; if a worker is killed, return the unfinished jobs of the workers.

    This process cuts while the workers start, which takes as long as cutting several series.
    """
    handed_out: dict[Future[_Result], SeriesJob] = {}
    with _pool(helpers) as pool:
        with _new_workers():
            starts = [pool.submit(os.getpid) for _ in range(helpers)]
        try:
            for mine in jobs:
                yield mine.series_instance_uid, attempt(mine)
                num_ready = sum(start.done() for start in starts)
                # One running and one waiting job for each worker: a slow one does not keep jobs from the others.
                for job in islice(jobs, max(0, 2 * num_ready - len(handed_out))):
                    handed_out[_submitted(pool, job)] = job
                yield from _done_of(handed_out, timeout=0.0)
            while handed_out:
                yield from _done_of(handed_out, timeout=None)
        except BrokenProcessPool:
            return list(handed_out.values())
        finally:
            pool.shutdown(cancel_futures=True)
    return []


def _done_of(handed_out: dict[Future[_Result], SeriesJob], *, timeout: float | None) -> Iterator[tuple[str, _Result]]:
    """Yield and remove finished jobs; without a timeout, wait for at least one."""
    for future in wait(handed_out, timeout, FIRST_COMPLETED).done:
        result = future.result()
        yield handed_out.pop(future).series_instance_uid, result


def _attempt_in_own_process(job: SeriesJob) -> _Result:
    with _pool(1) as pool:
        try:
            return _submitted(pool, job).result()
        except BrokenProcessPool:
            return killed(job.series_instance_uid)


def _pool(num_processes: int) -> ProcessPoolExecutor:
    # A forked process would inherit the locks of Dagster's threads.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(num_processes, mp_context=context, initializer=_end_with, initargs=(os.getpid(),))


def _submitted(pool: ProcessPoolExecutor, job: SeriesJob) -> Future[_Result]:
    """Submit a job; the future of a broken pool fails with its error."""
    try:
        with _new_workers():
            return pool.submit(attempt, job)
    except BrokenProcessPool as error:
        lost: Future[_Result] = Future()
        lost.set_exception(error)
        return lost


@contextlib.contextmanager
def _new_workers() -> Iterator[None]:
    """Keep new workers from importing the main module, as ``spawn`` does, and from a Ctrl-C until they ignore it.

    Importing Dagster takes a second; an import that Ctrl-C interrupts ends with a traceback.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    # A new process inherits what is blocked.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        sys.modules["__main__"] = main


def _end_with(parent: int) -> None:
    """Ignore Ctrl-C in a worker, and end it when its parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_CHECKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
