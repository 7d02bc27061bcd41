"""The sensor that diagnoses CTs as they arrive in LUNA_INCOMING_DIR: once per series and content of its files."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import dagster as dg

from luna_pipeline.assets.diagnosis_events import (
    DIAGNOSIS,
    LUNGS,
    READABLE,
    evaluation_of,
    readable_result,
    series_left,
)
from luna_pipeline.core.storage.files import folder_stat_digest
from luna_pipeline.jobs.asset_jobs import DIAGNOSIS_TAG, diagnose
from luna_pipeline.jobs.attempts import failure_by_files, request_of, why_no_retry
from luna_pipeline.jobs.cursor import JsonCursor
from luna_pipeline.partitions import INCOMING_SERIES, INCOMING_SERIES_NAME
from luna_pipeline.resources import LunaPaths
from luna_pipeline.runs.nested import PARTITION_TAG
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    from luna_pipeline.launchers.diagnosis.incoming import Incoming

_REQUESTS_PER_QUERY = 100
_NONE_REPORTED = hashlib.sha256(b"[]").hexdigest()[:32]
REQUEST_TAG = "luna/incoming_request"
"""Tag of each requested run: digests of the series with its files, and of the settings, that it was requested for."""


@dataclass
class Seen(JsonCursor):
    """Cursor of the sensor.

    Attributes:
        stat_digest: Digest of names, sizes and times of the files below the folder.
        settings: Digest of the settings that decide which files are readable.
        is_settled: Whether nothing is left to do for these files and settings: no series arrives or waits for a retry.
        reported: Digest of the unreadable files that were reported last.
    """

    stat_digest: str = ""
    settings: str = ""
    is_settled: bool = False
    reported: str = ""


@dataclass
class _Plan:
    """Runs to request, and why the other undiagnosed series wait or are left alone."""

    requests: list[dg.RunRequest]
    waiting: dict[str, str]
    refused: dict[str, str]


@dg.sensor(
    job=diagnose,
    minimum_interval_seconds=30,
    description="Diagnoses each CT that arrives in LUNA_INCOMING_DIR, once its files have stopped changing.",
)
def incoming_changed(context: dg.SensorEvaluationContext, paths: LunaPaths) -> dg.SensorResult | dg.SkipReason:
    """Register complete series and request a run for each that has no diagnosis of its present files."""
    settings = paths.settings
    if not settings.incoming_dir.is_dir():
        return dg.SkipReason(f"There is no folder {settings.incoming_dir} (LUNA_INCOMING_DIR)")
    seen, stat_digest = Seen.from_cursor(context.cursor), folder_stat_digest(settings.incoming_dir)
    now = Seen(stat_digest, request_of(""), is_settled=True, reported=seen.reported)
    if seen == now:
        return dg.SkipReason("No file below the folder changed, and nothing is left to diagnose")
    from luna_pipeline.launchers.diagnosis.incoming import look_at_incoming

    incoming = look_at_incoming(settings)
    plan = _plan(context.instance, settings, incoming.contents)
    now.is_settled = not (incoming.num_arriving or plan.requests or plan.waiting)
    events = _report(context.instance, now, incoming)
    known = set(context.instance.get_dynamic_partitions(INCOMING_SERIES_NAME))
    new = sorted(set(incoming.contents) - known)
    return dg.SensorResult(
        run_requests=plan.requests,
        dynamic_partitions_requests=[INCOMING_SERIES.build_add_request(new)] if new else [],
        asset_events=events,
        cursor=now.as_cursor(),
        skip_reason=None if plan.requests else _skip_reason(incoming, plan),
    )


def _plan(instance: dg.DagsterInstance, settings: Settings, contents: Mapping[str, str]) -> _Plan:
    plan = _Plan([], {}, {})
    left = series_left(instance, settings, contents, [LUNGS, DIAGNOSIS])
    wanted = {uid: _request(uid, contents[uid]) for uid in left}
    runs = _runs_by_request(instance, wanted.values())
    for uid, request in sorted(wanted.items()):
        records = runs.get(request, [])
        if any(not record.dagster_run.is_finished for record in records):
            plan.waiting[uid] = "Its run is under way"
        elif records and records[0].dagster_run.is_success:
            plan.refused[uid] = f"The run for its files succeeded; `{diagnose.name}` makes its diagnosis again"
        elif reason := _why_not(instance, records):
            (plan.waiting if "due at" in reason else plan.refused)[uid] = reason
        else:
            # The key prevents a second run for the same attempt if the cursor was not stored.
            key, tags = f"{request}/{len(records)}", {REQUEST_TAG: request, PARTITION_TAG: uid, DIAGNOSIS_TAG: "true"}
            plan.requests.append(dg.RunRequest(run_key=key, partition_key=uid, tags=tags))
    return plan


def _request(uid: str, files: str) -> str:
    return request_of(hashlib.sha256(f"{uid}/{files}".encode()).hexdigest()[:32])


def _runs_by_request(instance: dg.DagsterInstance, requests: Iterable[str]) -> dict[str, list[dg.RunRecord]]:
    """Return the runs for each request, newest first."""
    found: dict[str, list[dg.RunRecord]] = defaultdict(list)
    wanted = sorted(requests)
    for start in range(0, len(wanted), _REQUESTS_PER_QUERY):
        tags = {REQUEST_TAG: wanted[start : start + _REQUESTS_PER_QUERY]}
        for record in instance.get_run_records(dg.RunsFilter(job_name=diagnose.name, tags=tags)):
            found[record.dagster_run.tags[REQUEST_TAG]].append(record)
    return found


def _why_not(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> str | None:
    """Return why no further run is requested after the failed ones, or not yet."""
    lasting = None
    if records and records[0].dagster_run.is_failure:
        lasting = failure_by_files(instance, records[0].dagster_run, causes=[records[0].dagster_run])
    lasting = lasting and replace(lasting, files="its files")
    return why_no_retry(records, job_name=diagnose.name, lasting=lasting)


def _report(instance: dg.DagsterInstance, seen: Seen, incoming: "Incoming") -> list[dg.AssetCheckEvaluation]:
    """Return the result of the check of unreadable files if it has changed, and note it in the cursor."""
    reported = hashlib.sha256(json.dumps(sorted(incoming.unreadable.items())).encode()).hexdigest()[:32]
    if reported == (seen.reported or _NONE_REPORTED):
        return []
    seen.reported = reported
    return [evaluation_of(instance, readable_result(incoming.unreadable, incoming.num_arriving))]


def _skip_reason(incoming: "Incoming", plan: _Plan) -> str:
    """Return what the series wait for, and the first reason of those that are left alone."""
    parts = [f"{incoming.num_arriving} series are arriving"] if incoming.num_arriving else []
    if incoming.unreadable:
        parts.append(f"{len(incoming.unreadable)} cannot be read, see the check `{READABLE}` of `{LUNGS}`")
    parts += [f"Series {uid}: {reason}" for uid, reason in list({**plan.waiting, **plan.refused}.items())[:3]]
    return "; ".join(parts) or "All complete series are diagnosed"
