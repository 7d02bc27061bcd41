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
from typing import Protocol, TypeAlias

from luna_pipeline.core.cutouts.job import CutOutcome, SeriesJob

_SECONDS_BETWEEN_LOOKS = 0.5
_Jobs: TypeAlias = list[SeriesJob]
_Result: TypeAlias = CutOutcome | str


class RunJobs(Protocol):
    """Who cuts series: ``run_jobs``, or what stands in its place where other machines take part."""

    def __call__(
        self, jobs: Iterable[SeriesJob], *, workers: int | None = None
    ) -> Iterator[tuple[str, CutOutcome | str]]:
        """Cut series; yield the uid and the outcome of each, or why it failed, as it is done."""


def run_jobs(jobs: Iterable[SeriesJob], *, workers: int | None = None) -> Iterator[tuple[str, CutOutcome | str]]:
    """Cut series; one that fails does not stop the others.

    Args:
        jobs: The series.
        workers: Processes, this one among them; each has one CT in memory at a time. None for this one alone.

    Yields:
        Series uid and outcome, or the reason why it failed, as each is done.
    """
    workers = checked_workers(workers) or 1
    if workers == 1:
        for job in jobs:
            yield job.series_instance_uid, attempt(job)
        return
    waiting = iter(jobs)
    # A worker that is killed breaks its pool. Which series killed it shows when each of those in work is cut alone.
    while suspects := (yield from _run_with_helpers(waiting, workers - 1)):
        for job in suspects:
            yield job.series_instance_uid, _attempt_apart(job)


def checked_workers(workers: int | None) -> int | None:
    """Return a number of workers that makes sense, or None where none is given."""
    if workers is not None and workers < 1:
        msg = f"Cutting needs a whole number of workers from 1, got {workers}. Give 1 or more."
        raise ValueError(msg)
    return workers


def attempt(job: SeriesJob) -> CutOutcome | str:
    """Run a job; what is wrong with a series or a disk is its result, what is wrong with the code is raised."""
    try:
        return job.run()
    except (ValueError, OSError) as error:
        return " ".join(str(error).split())


def killed(series_instance_uid: str) -> str:
    """Say why a series failed whose worker was killed."""
    return f"A worker must live until its series is cut, got one that was killed (series {series_instance_uid})."


def _run_with_helpers(jobs: Iterator[SeriesJob], helpers: int) -> Generator[tuple[str, _Result], None, _Jobs]:
    """Cut here and in other processes until all is done; return what the others had in hand when one was killed.

    While they start, which takes as long as cutting several series, this process is at work already.
    """
    handed_out: dict[Future[_Result], SeriesJob] = {}
    with _pool(helpers) as pool:
        with _without_main():
            starts = [pool.submit(os.getpid) for _ in range(helpers)]
        try:
            for mine in jobs:
                yield mine.series_instance_uid, attempt(mine)
                num_ready = sum(start.done() for start in starts)
                # One in work and one waiting for each: who is slow shall not hold what others could do.
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
    """Yield what is done, and take it out; without a timeout wait until something is."""
    for future in wait(handed_out, timeout, FIRST_COMPLETED).done:
        result = future.result()
        yield handed_out.pop(future).series_instance_uid, result


def _attempt_apart(job: SeriesJob) -> _Result:
    """Run a job in a process of its own, which it may kill."""
    with _pool(1) as pool:
        try:
            return _submitted(pool, job).result()
        except BrokenProcessPool:
            return killed(job.series_instance_uid)


def _pool(num_processes: int) -> ProcessPoolExecutor:
    # A fresh interpreter each: a fork would inherit the locks of Dagster's threads.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(num_processes, mp_context=context, initializer=_end_with, initargs=(os.getpid(),))


def _submitted(pool: ProcessPoolExecutor, job: SeriesJob) -> Future[_Result]:
    """Hand a job to a pool; to a broken one it is handed in vain, and shows among those that were not done."""
    try:
        with _without_main():
            return pool.submit(attempt, job)
    except BrokenProcessPool as error:
        lost: Future[_Result] = Future()
        lost.set_exception(error)
        return lost


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Let a new worker not import the program that was started, as Python would have it: Dagster takes a second."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _end_with(parent: int) -> None:
    """Prepare a worker: Ctrl-C is the parent's matter, and without its parent a worker ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
