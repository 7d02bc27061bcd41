"""Run records as Dagster writes them: begun, ended, nested, retried by the daemon."""

from typing import Any

import dagster as dg
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from luna_pipeline.runs.nested import MAX_RETRIES_TAG, PARENT_TAG

QUEUED = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("luna_pipeline"), "__repository__"), "cut")
"""Origin of the runs that page, schedules and sensors start; those of the terminal have none."""


def begun(instance: dg.DagsterInstance, **arguments: Any) -> dg.DagsterRun:
    """Return the record of a run in progress."""
    arguments = {"job_name": "cut", "status": dg.DagsterRunStatus.STARTED, "tags": {}, **arguments}
    if "parent_run_id" in arguments:
        links = {f"dagster/{name}": arguments[name] for name in ("parent_run_id", "root_run_id")}
        arguments["tags"] = {**arguments["tags"], **links}
    return create_run_for_test(instance, **arguments)


def nested(instance: dg.DagsterInstance, outer: dg.DagsterRun, **arguments: Any) -> dg.DagsterRun:
    """Return the record of a run in progress that is part of another."""
    return begun(instance, tags={PARENT_TAG: outer.run_id, MAX_RETRIES_TAG: "0"}, **arguments)


def failed(instance: dg.DagsterInstance, *, max_retries: int | None = 0, **arguments: Any) -> dg.DagsterRun:
    """Return the record of a run that failed; by default one that is not retried."""
    tags = arguments.pop("tags", {}) | ({} if max_retries is None else {MAX_RETRIES_TAG: str(max_retries)})
    run = begun(instance, tags=tags, **arguments)
    instance.report_run_failed(run)
    return run


def ended(instance: dg.DagsterInstance, run: dg.DagsterRun, how: str) -> None:
    """End a run as ``success``, ``failure`` or ``canceled``."""
    if how == "success":
        event = dg.DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name=run.job_name)
        instance.report_dagster_event(event, run_id=run.run_id)
    elif how == "canceled":
        instance.report_run_canceled(run)
    else:
        instance.report_run_failed(run)


def retried(instance: dg.DagsterInstance, run: dg.DagsterRun, **arguments: Any) -> dg.DagsterRun:
    """Return the record of the retry in progress that the daemon starts for a failed run."""
    tags = {"dagster/retry_number": "1"}
    links = {"parent_run_id": run.run_id, "root_run_id": run.root_run_id or run.run_id}
    retry = begun(instance, remote_job_origin=QUEUED, **links, **{"tags": tags, **arguments})
    instance.add_run_tags(run.run_id, {"dagster/auto_retry_run_id": retry.run_id})
    return retry
