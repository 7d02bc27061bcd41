"""Series by series, in this process or in several."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from luna_pipeline.core.cutouts.job import CutOutcome, SeriesJob

_SECONDS_BETWEEN_LOOKS = 0.5


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
    while True:
        # A worker that was killed breaks its pool; the series that are still waiting get a new one.
        is_broken = yield from _run_in_pool(waiting, workers)
        if not is_broken:
            return


def _run_in_pool(jobs: Iterator[SeriesJob], workers: int) -> Generator[tuple[str, CutOutcome | str], None, bool]:
    """Cut until all is done or the pool breaks, and return whether it broke."""
    # A fresh interpreter each: a fork would inherit the locks of Dagster's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with, initargs=(os.getpid(),)) as pool:
        running: dict[Future[CutOutcome | str], str] = {}
        try:
            while True:
                for job in islice(jobs, workers + 1 - len(running)):
                    running[pool.submit(_attempt, job)] = job.series_instance_uid
                if not running:
                    return False
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield running.pop(future), result
        except BrokenProcessPool:
            for uid in running.values():
                yield uid, f"A worker must live until its series is cut, got one that was killed (series {uid})."
            return True
        finally:
            pool.shutdown(cancel_futures=True)


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
