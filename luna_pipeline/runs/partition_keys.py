"""Partition keys of backfills and runs in progress: removing one makes the whole backfill, or the run, fail."""

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from luna_pipeline.runs.nested import PARTITION_TAG

RANGE_TAGS = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_IN_PROGRESS = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


def backfills_in_progress(instance: dg.DagsterInstance) -> Sequence[PartitionBackfill]:
    """Return the backfills that have not ended."""
    return instance.get_backfills(filters=BulkActionsFilter(statuses=_IN_PROGRESS))


def keys_in_use(instance: dg.DagsterInstance, names: Iterable[str]) -> dict[str, str]:
    """Return what each partition key in use is used by, such as "backfill abc".

    Args:
        instance: Dagster's instance.
        names: Names of the dynamic partitions definitions, in whose order ranges of keys are read.
    """
    used: dict[str, str] = {}
    for backfill in backfills_in_progress(instance):
        used |= dict.fromkeys(_of_backfill(backfill), f"backfill {backfill.backfill_id}")
    ordered = [instance.get_dynamic_partitions(name) for name in names]
    for run in instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
        used |= dict.fromkeys(_of_run(run.tags, ordered), f"run {run.run_id} of `{run.job_name}`")
    return used


def _of_backfill(backfill: PartitionBackfill) -> set[str]:
    data = backfill.asset_backfill_data
    subsets = data.target_subset.partitions_subsets_by_asset_key.values() if data else ()
    # A backfill of a job names its keys itself.
    return {*(backfill.partition_names or ()), *(key for subset in subsets for key in subset.get_partition_keys())}


def _of_run(tags: Mapping[str, str], ordered: Iterable[Sequence[str]]) -> set[str]:
    first, last = (tags.get(name) for name in RANGE_TAGS)
    keys = {key for key in (tags.get(PARTITION_TAG), first, last) if key is not None}
    for known in ordered:
        if first in known and last in known:
            keys.update(known[known.index(first) : known.index(last) + 1])
    return keys
