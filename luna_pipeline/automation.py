"""Re-cutting when tables or CTs change: a frequent, cheap sensor and a thorough nightly schedule."""

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from luna_pipeline.core.storage.files import folder_stat_digest
from luna_pipeline.jobs.attempts import why_no_retry
from luna_pipeline.jobs.cursor import JsonCursor
from luna_pipeline.jobs.recut import recut_changed
from luna_pipeline.jobs.recut_failures import failed_attempts, lasting_failure, request_for
from luna_pipeline.outdated import inputs_digest, recorded_digests, work_left
from luna_pipeline.resources import CutoutCutting, LunaPaths

if TYPE_CHECKING:
    from luna_pipeline.core.cutouts.up_to_date import UpToDateMarker

LOST_AFTER = timedelta(hours=24)
"""A run in progress prevents further ones at most for this time."""


@dataclass
class Seen(JsonCursor):
    """Cursor of the sensor.

    Attributes:
        stat_digest: Digest of names, sizes and times of the files below the data root.
        digest: Digest of their content, read once they were unchanged between two ticks; empty before.
    """

    stat_digest: str = ""
    digest: str = ""


def _not_now(instance: dg.DagsterInstance, paths: LunaPaths) -> dg.SkipReason | None:
    """Return why nothing can be compared now."""
    if not paths.settings.data_dir.is_dir():
        return dg.SkipReason(f"There is no data root {paths.settings.data_dir}")
    run = _newest_run(instance)
    if run is not None and not run.is_finished and not _is_lost(instance, run):
        return dg.SkipReason(f"Run {run.run_id} of `{recut_changed.name}` is under way")
    return None


def _is_lost(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether an unfinished run is so old that its process must be gone, for example with its machine."""
    record = instance.get_run_record_by_id(run.run_id)
    return record is not None and datetime.now(UTC) - record.create_timestamp.astimezone(UTC) > LOST_AFTER


def _newest_run(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    return next(iter(instance.get_runs(dg.RunsFilter(job_name=recut_changed.name), limit=1)), None)


@dg.sensor(job=recut_changed, minimum_interval_seconds=30, description="Re-cuts when a table or a CT was edited.")
def inputs_changed(context: dg.SensorEvaluationContext, paths: LunaPaths) -> dg.SensorResult | dg.SkipReason:
    """Compare the inputs, once they are unchanged between two ticks, with those of catalogue and candidate table."""
    if not_now := _not_now(context.instance, paths):
        return not_now
    seen, stat_digest = Seen.from_cursor(context.cursor), folder_stat_digest(paths.settings.data_dir)
    if stat_digest != seen.stat_digest:
        # A file that is being written is not read: its size or time changes until the next tick.
        context.update_cursor(Seen(stat_digest).as_cursor())
        return dg.SkipReason("Files below the data root are new or changed; they are read when they stay unchanged")
    digest = seen.digest or inputs_digest(paths)
    cursor = Seen(stat_digest, digest).as_cursor()
    attempts = failed_attempts(context.instance, digest)
    num_failed = len(attempts.records) + attempts.num_before
    if not num_failed and recorded_digests(context.instance) == {digest}:
        context.update_cursor(cursor)
        return dg.SkipReason("Catalogue and tables were made from the current files")
    lasting = lasting_failure(context.instance, attempts.records[0].dagster_run) if attempts.records else None
    if reason := why_no_retry(attempts.records, job_name=recut_changed.name, lasting=lasting):
        context.update_cursor(cursor)
        return dg.SkipReason(reason)
    return dg.SensorResult(run_requests=[request_for(digest)], cursor=cursor)


@dg.schedule(job=recut_changed, cron_schedule="0 3 * * *", description="Every night: re-cuts everything outdated.")
def recut_nightly(
    context: dg.ScheduleEvaluationContext, paths: LunaPaths, cutting: CutoutCutting
) -> dg.RunRequest | dg.SkipReason:
    """Compare inputs, tables and the cutout files themselves.

    A run that would only repeat a lasting failure is not requested.
    """
    if not_now := _not_now(context.instance, paths):
        return not_now
    marker, lasting = _marker(context.instance, cutting, paths), None
    if not marker.holds():
        stat_digest, files, digest = marker.stat_digest(), marker.files(), inputs_digest(paths)
        attempts = failed_attempts(context.instance, digest).records
        lasting = lasting_failure(context.instance, attempts[0].dagster_run) if attempts else None
        if recorded_digests(context.instance) != {digest}:
            return dg.SkipReason(str(lasting)) if lasting else request_for(digest)
        if reason := work_left(cutting, paths, except_for=lasting.series if lasting else ()):
            context.log.info("Cutting again: %s", reason)
            return request_for(digest)
        # If the folder is read only, each night compares everything.
        with contextlib.suppress(OSError):
            if not lasting:
                marker.write(stat_digest, files)
    _confirm(context.instance)
    return dg.SkipReason(str(lasting or "Tables and cutouts are as they should be"))


def _marker(instance: dg.DagsterInstance, cutting: CutoutCutting, paths: LunaPaths) -> "UpToDateMarker":
    """Return the marker with which the next check compares only stat digests.

    It differs from the markers of the command line, because it includes the digests that Dagster has recorded.
    """
    from luna_pipeline.launchers.cutting import CuttingRequest

    marker = CuttingRequest(cutting.parameters, cutting.selection).marker(paths.settings)
    recorded = sorted(str(digest) for digest in recorded_digests(instance))
    return replace(marker, request={**marker.request, "recorded": recorded})


def _confirm(instance: dg.DagsterInstance) -> None:
    """Report the last materializations again: freshness counts from the last successful check."""
    for name in ("candidates", "cutouts"):
        event = instance.get_latest_materialization_event(dg.AssetKey(name))
        if event is not None and event.asset_materialization is not None:
            instance.report_runless_asset_event(event.asset_materialization)
