"""Dagster's runs, each in a row: job, status, time, and why it failed."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from luna_pipeline.runs.nested import PARTITION_TAG, failure_line, name_of_job, outermost_run_id

_MAX_REASON = 300


def run_rows(
    instance: dg.DagsterInstance,
    *,
    limit: int,
    statuses: list[dg.DagsterRunStatus] | None = None,
    is_with_nested: bool = False,
) -> list[dict[str, Any]]:
    """Return runs, the newest first.

    Args:
        instance: Dagster's instance.
        limit: Number of runs.
        statuses: Statuses of the runs; None for all.
        is_with_nested: Whether runs inside other runs are included.
    """
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(rows) < limit:
        records = instance.get_run_records(dg.RunsFilter(statuses=statuses), limit=max(50, limit), cursor=cursor)
        kept = [one for one in records if is_with_nested or outermost_run_id(one.dagster_run) is None]
        rows += [_row(instance, record) for record in kept[: limit - len(rows)]]
        if not records:
            break
        cursor = records[-1].dagster_run.run_id
    return rows


def _row(instance: dg.DagsterInstance, record: dg.RunRecord) -> dict[str, Any]:
    run = record.dagster_run
    started = record.start_time or record.create_timestamp.astimezone(UTC).timestamp()
    is_over = record.end_time is not None and record.start_time is not None
    return {
        "job": name_of_job(run),
        "status": run.status.value.lower(),
        "started_at": f"{datetime.fromtimestamp(started):%Y-%m-%d %H:%M}",
        "seconds": round(record.end_time - started, 1) if is_over and record.end_time else None,
        "partition": run.tags.get(PARTITION_TAG),
        "reason": reason_of(instance, run) if run.is_failure else "",
        "run_id": run.run_id,
    }


def reason_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Return why a run failed in one line: its first failed step, or that it has none, as after a lost process."""
    failures = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
    if failures:
        event = failures[0].event_log_entry.get_dagster_event()
        return f"{event.step_key}: {failure_line(event)}"[:_MAX_REASON]
    ended = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE, limit=1).records
    message = ended[0].event_log_entry.get_dagster_event().message if ended else None
    return " ".join((message or "its process ended without a reason").split())[:_MAX_REASON]
