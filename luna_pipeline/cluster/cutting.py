"""Cutting of many series on Ray: workers write the cutout files and return only the outcomes."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from luna_pipeline.cluster.session import RayResources, ray_session

if TYPE_CHECKING:
    from luna_pipeline.core.cutouts.job import CutOutcome, SeriesJob

# Retries of a series whose worker was killed, for example because memory was short for a while.
MAX_RETRIES = 2


def run_jobs_on_ray(
    jobs: "Iterable[SeriesJob]", *, workers: int | None = None, address: str | None = None
) -> "Iterator[tuple[str, CutOutcome | str]]":
    """Cut series on a Ray cluster or on this machine; one that fails does not stop the others.

    All machines need the same paths to CTs and cutouts, on a shared disk or in S3. Closing the generator cancels the
    series in work.

    Args:
        jobs: The series.
        workers: Processes that cut at once, each with one CT in memory; None for one per CPU of Ray.
        address: Head of the cluster, ``host:port``; None for the one of RAY_ADDRESS, else this machine.

    Yields:
        Series uid and outcome, or the reason of the failure, in order of completion.

    Raises:
        ConnectionError: If there is no cluster at the address.
        ValueError: If the number of workers is not positive.
    """
    from luna_pipeline.core.cutouts.workers import checked_workers

    with ray_session(address=address, num_cpus=checked_workers(workers)) as resources:
        yield from _run(iter(jobs), num_in_flight=_num_in_flight(resources, workers))


def _num_in_flight(resources: RayResources, workers: int | None) -> int:
    """Return how many series are submitted at once: ``workers`` if there are more CPUs, else two per CPU."""
    num_cpus = max(1, int(resources.num_cpus))
    return workers if workers is not None and workers < num_cpus else 2 * num_cpus


def _run(jobs: "Iterator[SeriesJob]", *, num_in_flight: int) -> "Iterator[tuple[str, CutOutcome | str]]":
    import ray

    task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_attempt_if_same_code)
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


def _attempt_if_same_code(job: "SeriesJob") -> "CutOutcome | str":
    """Run a job on a worker that has the driver's version of the cutting code."""
    from luna_pipeline.core.ct.errors import TransientFailure
    from luna_pipeline.core.cutouts.cutting import CUTTING_CODE_VERSION
    from luna_pipeline.core.cutouts.workers import attempt

    if job.wanted.code == CUTTING_CODE_VERSION:
        return attempt(job)
    msg = f"All machines must cut alike, got code {CUTTING_CODE_VERSION} on a worker and {job.wanted.code} on"
    found = f"{msg} the driver (series {job.series_instance_uid})."
    return TransientFailure(f"{found} Install the same luna_pipeline on all of them.")


def _result(reference: Any, job: "SeriesJob") -> "CutOutcome | str":
    """Return the outcome of a series in the form of ``core.cutouts.workers.run_jobs``."""
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

    from luna_pipeline.core.ct.errors import TransientFailure
    from luna_pipeline.core.cutouts.workers import killed

    try:
        result: CutOutcome | str = ray.get(reference)
    except (NodeDiedError, OutOfMemoryError, WorkerCrashedError):
        return killed(job.series_instance_uid)
    if isinstance(result, str) or _is_visible(job, result):
        return result
    return TransientFailure(
        "Cutouts must lie where all machines of the cluster see them, got a file that is not here (series "
        f"{job.series_instance_uid}, folder {job.store.root}). Set LUNA_HOME to a shared disk or to S3."
    )


def _is_visible(job: "SeriesJob", outcome: "CutOutcome") -> bool:
    """Return whether this machine sees the file that another one wrote; always in S3."""
    from luna_pipeline.core.storage.files import is_remote

    uid, store = outcome.series_instance_uid, job.store
    if is_remote(store.root) or store.digest(uid) == outcome.fingerprint:
        return True
    # A network disk may cache that the file does not exist, until its folder is listed.
    store.listing()
    return store.digest(uid) == outcome.fingerprint
