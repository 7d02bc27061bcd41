"""Removal of old runs with all that is recorded of them, except for what the present state is shown from.

Dagster removes old ticks by itself, but no runs. Its `delete_run` leaves logs, values between steps, results of checks
and the file of a run's events behind.
"""

import contextlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.schema import KeyValueStoreTable

from luna_pipeline.runs.nested import outermost_run_id
from luna_pipeline.runs.partition_keys import backfills_in_progress

BACKFILL_TAG = "dagster/backfill"
_KEYS_AT_ONCE = 500
_PREFIX = "luna/"
_SECONDS_FOR_LOCK = 30.0


@dataclass(frozen=True)
class OldRuns:
    """Finished runs older than a limit: those to remove, and the reason by run id of those that are kept."""

    removable: list[dg.DagsterRun]
    kept: dict[str, str]

    def lines(self, verb: str) -> Iterator[str]:
        """Describe them, by job and by reason."""
        for job, count in sorted(Counter(run.job_name for run in self.removable).items()):
            yield f"{verb} {count} run{'s' * (count > 1)} of `{job}`"
        for reason, count in sorted(Counter(self.kept.values()).items()):
            yield f"Kept {count} older: {reason}"


def find_old_runs(instance: dg.DagsterInstance, older_than: timedelta, *, unreported: Collection[str] = ()) -> OldRuns:
    """Return the runs that have ended before a time.

    Kept are: the newest run of each job; runs with the newest event of any kind of an asset or partition, or the newest
    result of a check, so that nothing is shown as never made; runs of backfills in progress; the outer and the first
    run of one that is kept.

    Args:
        instance: Dagster's instance.
        older_than: Age, since the end of a run, from which it may be removed.
        unreported: Ids of failed runs whose alert is still to be sent; they are kept.
    """
    records, limit = instance.get_run_records(), datetime.now(UTC) - older_than
    runs = {record.dagster_run.run_id: record.dagster_run for record in records}
    old = {it.dagster_run.run_id for it in records if it.dagster_run.is_finished and it.update_timestamp <= limit}
    kept: dict[str, str] = {}
    for run_ids, reason in [
        (unreported, "with an alert that is still to be sent"),
        (_with_newest_events(instance), "with the newest event of an asset, partition or check"),
        (_newest_by_job(runs), "newest of its job"),
        (_of_backfills(instance, runs), "of a backfill in progress"),
    ]:
        kept = {**dict.fromkeys(old.intersection(run_ids), reason), **kept}
    waiting = [run_id for run_id in runs if run_id not in old or run_id in kept]
    while waiting:
        run = runs[waiting.pop()]
        for run_id in old.intersection({run.root_run_id, outermost_run_id(run)}).difference(kept):
            kept[run_id] = "outer or first run of one that stays"
            waiting.append(run_id)
    return OldRuns([runs[run_id] for run_id in runs if run_id in old.difference(kept)], kept)


def prune_old_runs(
    instance: dg.DagsterInstance,
    older_than: timedelta,
    *,
    is_removed: bool,
    report: Callable[[str], Any],
    unreported: Collection[str] = (),
) -> OldRuns:
    """List old runs, and remove them if ``is_removed``; see ``find_old_runs``."""
    found = find_old_runs(instance, older_than, unreported=unreported)
    for line in found.lines("Removing" if is_removed else "Would remove"):
        report(line)
    if is_removed:
        remove_runs(instance, found.removable, report=report)
    elif found.removable:
        report("Add --yes to remove them.")
    report(f"{len(found.removable)} runs that ended more than {older_than.days} days ago, {len(found.kept)} kept.")
    return found


def remove_runs(instance: dg.DagsterInstance, runs: Collection[dg.DagsterRun], *, report: Callable[[str], Any]) -> None:
    """Remove runs, their events, logs, values between steps and leases, and give the space back where it is SQLite's.

    An interrupted removal can be repeated: a run is removed after what belongs to it.
    """
    run_ids = [run.run_id for run in runs]
    for run_id in run_ids:
        instance.event_log_storage.delete_events(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)
    for start in range(0, len(run_ids), _KEYS_AT_ONCE):
        _remove_rows(instance, run_ids[start : start + _KEYS_AT_ONCE])
    _remove_databases(instance)
    for path in _sqlite_files(instance):
        try:
            _vacuum(path)
        except sqlite3.Error as error:
            report(f"The space in {path} is not given back: {error}. Prune again when no run is in progress.")


def _with_newest_events(instance: dg.DagsterInstance) -> set[str]:
    """Return the runs with the newest event of each kind of each asset and partition, and result of each check."""
    events, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
    newest_events = sa.select(sa.func.max(events.id)).where(events.asset_key.is_not(None))
    newest_events = newest_events.group_by(events.asset_key, events.partition, events.dagster_event_type)
    newest_checks = sa.select(sa.func.max(checks.id)).group_by(checks.asset_key, checks.check_name, checks.partition)
    with _storages(instance)[1].index_connection() as connection:
        rows = [
            *connection.execute(sa.select(events.run_id).where(events.id.in_(newest_events)).distinct()),
            *connection.execute(sa.select(checks.run_id).where(checks.id.in_(newest_checks)).distinct()),
        ]
    return {run_id for (run_id,) in rows}


def _newest_by_job(runs: Mapping[str, dg.DagsterRun]) -> set[str]:
    """Return the newest run of each job, given runs with the newest first."""
    newest: dict[str, str] = {}
    for run_id, run in runs.items():
        newest.setdefault(run.job_name, run_id)
    return set(newest.values())


def _of_backfills(instance: dg.DagsterInstance, runs: Mapping[str, dg.DagsterRun]) -> set[str]:
    in_progress = {backfill.backfill_id for backfill in backfills_in_progress(instance)}
    return {run_id for run_id, run in runs.items() if run.tags.get(BACKFILL_TAG) in in_progress}


def _remove_databases(instance: dg.DagsterInstance) -> None:
    """Remove SQLite's files with the events of single runs that are gone.

    They are removed last: a storage that has seen a file fails if it is missing.
    """
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        for run_id in set(storage.get_all_run_ids()).difference(instance.get_run_ids()):
            for suffix in ("", "-wal", "-shm"):
                Path(storage.path_for_shard(run_id) + suffix).unlink(missing_ok=True)


def _remove_rows(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    """Remove rows that refer to runs, and then the runs."""
    checks, values = AssetCheckExecutionsTable, KeyValueStoreTable
    runs, events = _storages(instance)
    with events.index_connection() as connection:
        connection.execute(sa.delete(checks).where(checks.c.run_id.in_(run_ids)))
    with runs.connect() as connection:
        ours = connection.execute(sa.select(values.c.key).where(values.c.key.like(f"{_PREFIX}%"))).scalars()
        of_runs = [key for key in ours if key.rpartition("/")[2] in run_ids]
        connection.execute(sa.delete(values).where(values.c.key.in_(of_runs)))
    for run_id in run_ids:
        runs.delete_run(run_id)


def _sqlite_files(instance: dg.DagsterInstance) -> list[str]:
    """Return the paths of the databases of runs and events; none if another server has them."""
    runs, events = _storages(instance)
    with runs.connect() as first, events.index_connection() as second:
        return [str(it.engine.url.database) for it in (first, second) if it.dialect.name == "sqlite"]


def _storages(instance: dg.DagsterInstance) -> tuple[SqlRunStorage, SqlEventLogStorage]:
    """Return the storages of runs and of events, which must be SQL databases."""
    runs, events = instance.run_storage, instance.event_log_storage
    if not (isinstance(runs, SqlRunStorage) and isinstance(events, SqlEventLogStorage)):
        msg = f"Old runs can be removed from SQL storages only, got {type(runs).__name__} and {type(events).__name__}."
        raise TypeError(f"{msg} Delete them on Dagster's page.")
    return runs, events


def _vacuum(path: str) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=_SECONDS_FOR_LOCK)) as database:
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
