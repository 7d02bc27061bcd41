"""Failed runs of `recut_changed`: how often they were requested for the same files, and whether these are the cause."""

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

import dagster as dg

from luna_pipeline.jobs.recut import recut_changed
from luna_pipeline.partitions import FAILED, IS_TRANSIENT
from luna_pipeline.runs.nested import PARENT_TAG, root_message

REQUEST_TAG = "luna/recut_request"
"""Tag of each requested run: digests of the files and of the settings that it was requested for."""
# Other values of these may make files readable that were not.
_SETTINGS = "LUNA_ASSUME_HU", "LUNA_MAX_CT_GIB", "LUNA_MAX_TABLE_MIB"
_OF_FILES = {"DagsterAssetCheckFailedError", "FileNotFoundError", "ValueError"}
_NUM_READ = 50


@dataclass(frozen=True)
class LastingFailure:
    """Failure that each run has until files or settings change.

    Attributes:
        text: What failed and why.
        series: Series that could not be cut; empty if another stage failed.
    """

    text: str
    series: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"No run is requested until files below the data root or settings change: {self.text}"


def request_for(digest: str) -> dg.RunRequest:
    """Return the request of a run for the files with this digest and the present settings."""
    return dg.RunRequest(tags={REQUEST_TAG: _request_of(digest)})


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
    same = [record for record in found if record.dagster_run.tags[REQUEST_TAG] == _request_of(digest)]
    return Attempts(same, len(found) - len(same))


def _request_of(digest: str) -> str:
    settings = [os.environ.get(name, "") for name in _SETTINGS]
    return f"{digest}/{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"


def lasting_failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> LastingFailure | None:
    """Return the failure of a run if the files are its cause: another run on them would fail too.

    That is: series that cannot be read, tables that cannot be used, checks of the data. None for all else, such as a
    lost process, a full disk or a server that does not answer.
    """
    nested = [one for one in instance.get_runs(dg.RunsFilter(tags={PARENT_TAG: run.run_id})) if one.is_failure]
    # A run whose process was lost has no failed step.
    if not nested or not all(_failed_steps(instance, one) for one in (run, *nested)):
        return None
    steps = [event for one in nested for event in _failed_steps(instance, one)]
    if not all(map(_is_of_files, steps)):
        return None
    series = {uid for event in steps for uid in _metadata(event, FAILED) or ()}
    return LastingFailure(" ".join(map(_text, steps)), frozenset(series))


def _failed_steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterEvent]:
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    return [event for record in records if (event := record.event_log_entry.dagster_event) is not None]


def _is_of_files(event: dg.DagsterEvent) -> bool:
    is_transient = _metadata(event, IS_TRANSIENT)
    return _root_class(event) in _OF_FILES if is_transient is None else not is_transient


def _root_class(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.cls_name or "" if error is not None else ""


def _text(event: dg.DagsterEvent) -> str:
    """Return the message in one line, without the name of its class."""
    line, name = " ".join(root_message(event).split()), f"{_root_class(event)}: "
    return line.partition(name)[2] if line.partition(": ")[0].endswith(name[:-2]) else line


def _metadata(event: dg.DagsterEvent, key: str) -> Any:
    """Return a value that the code gave with a failure, None without one."""
    failure = event.step_failure_data.user_failure_data
    entry = failure.metadata.get(key) if failure is not None else None
    return entry.value if entry is not None else None
