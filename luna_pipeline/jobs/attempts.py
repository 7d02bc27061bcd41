"""Failed runs that a sensor requested for the same files: whether these are the cause, and when the next run is due."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from luna_pipeline.partitions import FAILED, IS_TRANSIENT
from luna_pipeline.runs.nested import failure_line, root_class

MAX_REQUESTS = 3
"""Runs for the same files if they fail for another reason than these files; no more are requested afterwards."""
RETRY_AFTER = timedelta(minutes=1), timedelta(minutes=10)
"""Time from the first failure to the second run, and from the second failure to the third."""
# Other values of these may make files readable that were not.
_SETTINGS = (
    *("LUNA_ASSUME_HU", "LUNA_MAX_CT_GIB", "LUNA_MAX_TABLE_MIB"),
    *("LUNA_SOURCE", "LUNA_MALIGNANCY_POLICY"),
)
_OF_FILES = {"DagsterAssetCheckFailedError", "FileNotFoundError", "ValueError"}


@dataclass(frozen=True)
class LastingFailure:
    """Failure that each run has until files or settings change.

    Attributes:
        text: What failed and why.
        series: Series that could not be processed; empty if another stage failed.
        files: The files on which it depends, in words.
    """

    text: str
    series: frozenset[str] = frozenset()
    files: str = "files below the data root"

    def __str__(self) -> str:
        return f"No run is requested until {self.files} or settings change: {self.text}"


def request_of(files: str) -> str:
    """Return the value of a request's tag: what identifies the files, and a digest of the present settings."""
    settings = [os.environ.get(name, "") for name in _SETTINGS]
    return f"{files}/{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"


def failure_by_files(
    instance: dg.DagsterInstance, run: dg.DagsterRun, *, causes: Sequence[dg.DagsterRun]
) -> LastingFailure | None:
    """Return the failure of a run if the files are its cause: another run on them would fail too.

    That is: series that cannot be read, tables that cannot be used, checks of the data. None for all else, such as a
    lost process, a full disk or a server that does not answer.

    Args:
        instance: Dagster's instance.
        run: The failed run.
        causes: The failed runs inside it, or itself, whose failed steps are the cause.
    """
    # A run whose process was lost has no failed step.
    if not causes or not all(_failed_steps(instance, one) for one in (run, *causes)):
        return None
    steps = [event for one in causes for event in _failed_steps(instance, one)]
    if not all(map(_is_of_files, steps)):
        return None
    series = {uid for event in steps for uid in _metadata(event, FAILED) or ()}
    return LastingFailure(" ".join(map(failure_line, steps)), frozenset(series))


def why_no_retry(
    attempts: Sequence[dg.RunRecord], *, job_name: str, lasting: LastingFailure | None = None
) -> str | None:
    """Return why no further run is requested after the failed ones, or not yet; None if one is due.

    Args:
        attempts: Failed and cancelled runs for the same files and settings, newest first.
        job_name: Their job.
        lasting: Failure of the newest one by its files, see ``failure_by_files``.
    """
    if not attempts:
        return None
    last = attempts[0]
    if last.dagster_run.status == dg.DagsterRunStatus.CANCELED:
        return f"The run for this change was cancelled; start `{job_name}` yourself to continue"
    if lasting:
        return str(lasting)
    if len(attempts) >= MAX_REQUESTS:
        return f"{MAX_REQUESTS} runs for this change failed; fix the errors in their logs and run `{job_name}`"
    ended = datetime.fromtimestamp(last.end_time, UTC) if last.end_time else last.update_timestamp.astimezone(UTC)
    due = ended + RETRY_AFTER[len(attempts) - 1]
    return None if datetime.now(UTC) >= due else f"The run for this change failed; the next one is due at {due:%X} UTC"


def _failed_steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterEvent]:
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    return [event for record in records if (event := record.event_log_entry.dagster_event) is not None]


def _is_of_files(event: dg.DagsterEvent) -> bool:
    is_transient = _metadata(event, IS_TRANSIENT)
    return root_class(event) in _OF_FILES if is_transient is None else not is_transient


def _metadata(event: dg.DagsterEvent, key: str) -> Any:
    """Return a value that the code gave with a failure, None without one."""
    failure = event.step_failure_data.user_failure_data
    entry = failure.metadata.get(key) if failure is not None else None
    return entry.value if entry is not None else None
