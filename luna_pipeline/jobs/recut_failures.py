"""Failed runs of `recut_changed`: how often they were requested for the same files, and whether these are the cause."""

from dataclasses import dataclass

import dagster as dg

from luna_pipeline.jobs.attempts import LastingFailure, failure_by_files, request_of
from luna_pipeline.jobs.recut import recut_changed
from luna_pipeline.runs.nested import PARENT_TAG

REQUEST_TAG = "luna/recut_request"
"""Tag of each requested run: digests of the files and of the settings that it was requested for."""
_NUM_READ = 50


def request_for(digest: str) -> dg.RunRequest:
    """Return the request of a run for the files with this digest and the present settings."""
    return dg.RunRequest(tags={REQUEST_TAG: request_of(digest)})


@dataclass(frozen=True)
class Attempts:
    """Failed and cancelled runs that were requested for the same files, newest first, since the last success.

    Attributes:
        records: Those with the present settings.
        num_before: Number of those with other settings.
    """

    records: list[dg.RunRecord]
    num_before: int


def failed_attempts(instance: dg.DagsterInstance, digest: str) -> Attempts:
    """Return the failed and cancelled runs that were requested for the files with this digest."""
    found: list[dg.RunRecord] = []
    for record in instance.get_run_records(dg.RunsFilter(job_name=recut_changed.name), limit=_NUM_READ):
        request = record.dagster_run.tags.get(REQUEST_TAG)
        if record.dagster_run.is_success or (request and request.partition("/")[0] != digest):
            break
        if request and record.dagster_run.is_finished:
            found.append(record)
    same = [record for record in found if record.dagster_run.tags[REQUEST_TAG] == request_of(digest)]
    return Attempts(same, len(found) - len(same))


def lasting_failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> LastingFailure | None:
    """Return the failure of a run if the files are its cause; see ``failure_by_files``."""
    nested = [one for one in instance.get_runs(dg.RunsFilter(tags={PARENT_TAG: run.run_id})) if one.is_failure]
    return failure_by_files(instance, run, causes=nested)
