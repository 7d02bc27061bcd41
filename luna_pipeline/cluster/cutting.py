"""Many series cut on Ray: jobs go out, workers write the files, and only what came of each series comes back."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from luna_pipeline.cluster.session import RayResources, ray_session

if TYPE_CHECKING:
    from luna_pipeline.core.cutouts.job import CutOutcome, SeriesJob

# A series whose worker was killed is tried so often again: the machine may have been short of memory for a while.
MAX_RETRIES = 2


def run_jobs_on_ray(
    jobs: "Iterable[SeriesJob]", *, workers: int | None = None, address: str | None = None
) -> "Iterator[tuple[str, CutOutcome | str]]":
    """Cut series on a cluster, or on a Ray of this machine; one that fails does not stop the others.

    CTs and cutouts lie where all machines see them under the same names: on a shared disk, or in S3. When nobody asks
    for more, what is in work is given up.

    Args:
        jobs: The series.
        workers: Processes that cut at once, each with one CT in memory; None for as many as Ray has CPUs.
        address: Head of the cluster, ``host:port``; None for the one that RAY_ADDRESS names, else this machine.

    Yields:
        Series uid and outcome, or the reason why it failed, as each is done.

    Raises:
        ConnectionError: If there is no cluster at the address.
        ValueError: If the number of workers makes no sense.
    """
    from luna_pipeline.core.cutouts.workers import checked_workers

    with ray_session(address=address, num_cpus=checked_workers(workers)) as there:
        yield from _run(iter(jobs), num_in_flight=_num_in_flight(there, workers))


def _num_in_flight(there: RayResources, workers: int | None) -> int:
    """Return how many series Ray has in hand: one waits for each in work, unless fewer shall be than there is room."""
    num_cpus = max(1, int(there.num_cpus))
    return workers if workers is not None and workers < num_cpus else 2 * num_cpus


def _run(jobs: "Iterator[SeriesJob]", *, num_in_flight: int) -> "Iterator[tuple[str, CutOutcome | str]]":
    import ray

    task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_attempt_as_asked)
    in_flight: dict[Any, SeriesJob] = {}
    try:
        while True:
            for job in islice(jobs, num_in_flight - len(in_flight)):
                in_flight[task.remote(job)] = job
            if not in_flight:
                return
            (done,), _ = ray.wait(list(in_flight))
            job = in_flight.pop(done)
            yield job.series_instance_uid, _result(done, job)
    finally:
        for reference in in_flight:
            ray.cancel(reference)


def _attempt_as_asked(job: "SeriesJob") -> "CutOutcome | str":
    """Run a job on a worker, unless it would cut other voxels than the machine that asks."""
    from luna_pipeline.core.cutouts.cutting import CUTTING_CODE_VERSION
    from luna_pipeline.core.cutouts.workers import attempt

    if job.wanted.code == CUTTING_CODE_VERSION:
        return attempt(job)
    msg = f"All machines must cut alike, got code {CUTTING_CODE_VERSION} on a worker and {job.wanted.code} on"
    return f"{msg} the driver (series {job.series_instance_uid}). Install the same luna_pipeline on all of them."


def _result(reference: Any, job: "SeriesJob") -> "CutOutcome | str":
    """Return what came of a series, as a process of this machine would have said it."""
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

    from luna_pipeline.core.cutouts.workers import killed

    try:
        result: CutOutcome | str = ray.get(reference)
    except (NodeDiedError, OutOfMemoryError, WorkerCrashedError):
        return killed(job.series_instance_uid)
    return result if isinstance(result, str) or _is_here(job, result) else _elsewhere(job)


def _is_here(job: "SeriesJob", outcome: "CutOutcome") -> bool:
    """Say whether this machine sees the file that another one wrote; in S3 it does."""
    from luna_pipeline.core.storage.files import is_remote

    uid, store = outcome.series_instance_uid, job.store
    if is_remote(store.root) or store.digest(uid) == outcome.fingerprint:
        return True
    # A network disk may remember that there was no such file, until somebody looks through its folder.
    store.listing()
    return store.digest(uid) == outcome.fingerprint


def _elsewhere(job: "SeriesJob") -> str:
    return (
        "Cutouts must lie where all machines of the cluster see them, got a file that is not here (series "
        f"{job.series_instance_uid}, folder {job.store.root}). Set LUNA_HOME to a shared disk or to S3."
    )
