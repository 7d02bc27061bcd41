"""Re-cutting when tables or CTs change: a sensor that looks often, a schedule that looks thoroughly."""

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from luna_pipeline.core.storage.files import exists, folder_digest, folder_stat_digest, status_of
from luna_pipeline.jobs.recut import recut_changed
from luna_pipeline.resources import CutoutCutting, LunaPaths

if TYPE_CHECKING:
    from luna_pipeline.core.cutouts.up_to_date import UpToDateMarker

TABLE_SUFFIX = ".csv"
MAX_REQUESTS = 3
"""How often the sensor asks for the same change when the runs fail; the nightly schedule asks again."""

LOST_AFTER = timedelta(hours=24)
"""A run under way keeps others from starting for so long at most."""

_ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


@dataclass
class Seen:
    """What the sensor remembers from tick to tick.

    Attributes:
        stat_digest: Names, sizes and times of the files below the data root.
        digest: Their content, once they rested from one tick to the next; empty before.
        num_requests: How many runs were asked for because of this content.
    """

    stat_digest: str = ""
    digest: str = ""
    num_requests: int = 0

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Seen":
        """Read what the last tick left; nothing, where there was none of this form."""
        try:
            return cls(**json.loads(cursor or "{}"))
        except (TypeError, ValueError):
            return cls()

    def as_cursor(self) -> str:
        """Return the text that the next tick reads."""
        return json.dumps(asdict(self))


def inputs_digest(paths: LunaPaths) -> str:
    """Return the digest that ``ct_series`` and ``candidates`` record of what they were made from."""
    return folder_digest(paths.settings.data_dir, by_content=TABLE_SUFFIX)


def recorded_digests(instance: dg.DagsterInstance) -> set[str | None]:
    """Return what catalogue and candidate table were made from; one digest, where both are of the same inputs."""
    digests: set[str | None] = set()
    for name in ("ct_series", "candidates"):
        event = instance.get_latest_materialization_event(dg.AssetKey(name))
        made = event.asset_materialization if event is not None else None
        entry = made.metadata.get("inputs_digest") if made is not None else None
        digests.add(str(entry.value) if entry is not None else None)
    return digests


def work_left(cutting: CutoutCutting, paths: LunaPaths) -> str | None:
    """Say why cutouts have to be cut although no input changed (lost or damaged files, other parameters); else None."""
    if not exists(paths.settings.tables_dir / "candidates.parquet"):
        return "the candidate table was never made"
    plan = cutting.service().plan()
    stale = plan[plan["state"] != "current"]
    if not stale.empty:
        return f"{len(stale)} series are {', '.join(sorted(set(stale['state'])))}"
    newest = max((status.modified_seconds for status in cutting.store.listing().values()), default=0.0)
    index = paths.settings.tables_dir / "cutout_index.parquet"
    is_indexed = exists(index) and status_of(index).modified_seconds >= newest
    return None if is_indexed else "the cutouts are newer than their index"


def _not_now(instance: dg.DagsterInstance, paths: LunaPaths) -> dg.SkipReason | None:
    """Say why nothing is compared at this moment."""
    if not paths.settings.data_dir.is_dir():
        return dg.SkipReason(f"There is no data root {paths.settings.data_dir}")
    run = _newest_run(instance)
    if run is not None and run.status not in _ENDED and not _is_lost(instance, run):
        return dg.SkipReason(f"Run {run.run_id} of `{recut_changed.name}` is under way")
    return None


def _is_lost(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run that never ended is so old that nobody works on it any more: the machine went down with it."""
    record = instance.get_run_record_by_id(run.run_id)
    age = datetime.now(UTC) - record.create_timestamp.astimezone(UTC) if record else timedelta(0)
    return age > LOST_AFTER


def _newest_run(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    return next(iter(instance.get_runs(dg.RunsFilter(job_name=recut_changed.name), limit=1)), None)


@dg.sensor(job=recut_changed, minimum_interval_seconds=30, description="Re-cuts when a table or a CT was edited.")
def inputs_changed(context: dg.SensorEvaluationContext, paths: LunaPaths) -> dg.SensorResult | dg.SkipReason:
    """Compare the inputs with those that catalogue and candidate table were made from, once they rest."""
    if not_now := _not_now(context.instance, paths):
        return not_now
    seen, stat_digest = Seen.from_cursor(context.cursor), folder_stat_digest(paths.settings.data_dir)
    if stat_digest != seen.stat_digest:
        # A file that is being written is not read: its next look will be another.
        context.update_cursor(Seen(stat_digest).as_cursor())
        return dg.SkipReason("Files below the data root are new or touched; they are read when they rest")
    digest = seen.digest or inputs_digest(paths)
    run = _newest_run(context.instance)
    last = run.status if run is not None and seen.num_requests else None
    if last == dg.DagsterRunStatus.CANCELED:
        return dg.SkipReason("The run for this change was cancelled; start it by hand when it is wanted")
    if recorded_digests(context.instance) == {digest} and last != dg.DagsterRunStatus.FAILURE:
        context.update_cursor(Seen(stat_digest, digest).as_cursor())
        return dg.SkipReason("Catalogue and tables were made from the files that are there")
    if seen.num_requests >= MAX_REQUESTS:
        return dg.SkipReason(f"{MAX_REQUESTS} runs for this change failed; mend what their logs say and run `cut`")
    cursor = Seen(stat_digest, digest, seen.num_requests + 1).as_cursor()
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=cursor)


@dg.schedule(
    job=recut_changed,
    cron_schedule="0 3 * * *",
    description="Every night: cuts whatever is not as it should be.",
)
def recut_nightly(
    context: dg.ScheduleEvaluationContext, paths: LunaPaths, cutting: CutoutCutting
) -> dg.RunRequest | dg.SkipReason:
    """Compare inputs, tables and the cutout files themselves."""
    if not_now := _not_now(context.instance, paths):
        return not_now
    note = _note(context.instance, cutting, paths)
    if not note.holds():
        stat_digest, files = note.stat_digest(), note.files()
        if recorded_digests(context.instance) != {inputs_digest(paths)}:
            return dg.RunRequest()
        if reason := work_left(cutting, paths):
            context.log.info("Cutting again: %s", reason)
            return dg.RunRequest()
        # Where cutouts cannot be written, each night looks thoroughly.
        with contextlib.suppress(OSError):
            note.write(stat_digest, files)
    _confirm(context.instance)
    return dg.SkipReason("Tables and cutouts are as they should be")


def _note(instance: dg.DagsterInstance, cutting: CutoutCutting, paths: LunaPaths) -> "UpToDateMarker":
    """Return the note that all was found right, by which the next look compares stat digests only.

    It is none of those that cutting by hand leaves: what Dagster has recorded is part of it.
    """
    from luna_pipeline.launchers.cutting import CuttingRequest

    marker = CuttingRequest(cutting.parameters, cutting.selection).marker(paths.settings)
    recorded = sorted(str(digest) for digest in recorded_digests(instance))
    return replace(marker, request={**marker.request, "recorded": recorded})


def _confirm(instance: dg.DagsterInstance) -> None:
    """Report again what was made: freshness counts from the last time that it was found right."""
    for name in ("candidates", "cutouts"):
        event = instance.get_latest_materialization_event(dg.AssetKey(name))
        if event is not None and event.asset_materialization is not None:
            instance.report_runless_asset_event(event.asset_materialization)
