"""Partitions: CT series, test folds and incoming series, registered by assets, removed by `luna prune`."""

import itertools
import math
import operator
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from luna_pipeline.runs.partition_keys import keys_in_use
from luna_pipeline.runs.registered_partitions import RegisteredPartitions, unknown_key

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.cutouts.store import CutoutStore

CT_SERIES_NAME = "series_instance_uid"
CT_SERIES = RegisteredPartitions(name=CT_SERIES_NAME)
FAILED, IS_TRANSIENT = "failed", "is_transient"
"""Metadata of a failure: reason by series, and whether the same files may be cut at another attempt."""
TEST_FOLD_NAME = "test_fold"
# The partition is the test fold: 3 is trained on other folds and tested on fold 3.
TEST_FOLDS = RegisteredPartitions(name=TEST_FOLD_NAME)
INCOMING_SERIES_NAME = "incoming_series"
INCOMING_SERIES = RegisteredPartitions(name=INCOMING_SERIES_NAME)


def register_series(instance: dg.DagsterInstance, uids: Iterable[str], name: str = CT_SERIES_NAME) -> None:
    """Register series as partitions, in sorted order. Ranges of partitions follow the order of registration."""
    known = set(instance.get_dynamic_partitions(name))
    if new := sorted(set(uids) - known):
        instance.add_dynamic_partitions(name, new)


def forget_series(instance: dg.DagsterInstance, uids: Iterable[str], name: str = CT_SERIES_NAME) -> dict[str, str]:
    """Remove series from the partitions, and return those that are in use; see ``_forget``."""
    return _forget(instance, name, uids)


def register_folds(instance: dg.DagsterInstance, folds: Iterable[int]) -> None:
    """Register test folds as partitions, in ascending order.

    Dagster keeps the order of registration. So the folds after a new one are registered again, unless they are in use.
    """
    known = instance.get_dynamic_partitions(TEST_FOLD_NAME)
    wanted = sorted({*known, *map(str, folds)}, key=_by_number)
    in_place = sum(itertools.accumulate(map(operator.eq, known, wanted), operator.and_))
    if wanted[in_place:]:
        _forget(instance, TEST_FOLD_NAME, known[in_place:])
        instance.add_dynamic_partitions(TEST_FOLD_NAME, wanted[in_place:])


def forget_folds(instance: dg.DagsterInstance, keys: Iterable[str]) -> dict[str, str]:
    """Remove test folds from the partitions, and return those that are in use; see ``_forget``."""
    return _forget(instance, TEST_FOLD_NAME, keys)


def partitions_in_use(instance: dg.DagsterInstance) -> dict[str, str]:
    """Return what each series or fold of a backfill or run in progress is used by."""
    return keys_in_use(instance, [CT_SERIES_NAME, TEST_FOLD_NAME, INCOMING_SERIES_NAME])


def _forget(instance: dg.DagsterInstance, name: str, keys: Iterable[str]) -> dict[str, str]:
    """Remove partitions; their events and files are kept.

    A partition of a backfill or run in progress is not removed, because the whole backfill would fail. Returns what
    each of these is used by.
    """
    registered = set(keys).intersection(instance.get_dynamic_partitions(name))
    used = partitions_in_use(instance) if registered else {}
    for key in sorted(registered.difference(used)):
        instance.delete_dynamic_partition(name, key)
    return {key: used[key] for key in sorted(registered.intersection(used))}


def fold_of_partition(context: dg.AssetExecutionContext) -> int:
    """Return the test fold of an asset's partition.

    Raises:
        ValueError: If it is not registered, or no number.
    """
    key, known = context.partition_key, context.instance.get_dynamic_partitions(TEST_FOLD_NAME)
    if key not in known or not key.isdecimal():
        raise ValueError(unknown_key(TEST_FOLD_NAME, key, [fold for fold in known if fold.isdecimal()]))
    return int(key)


def gone_folds(instance: dg.DagsterInstance, folds: Iterable[int]) -> list[str]:
    """Return the registered keys that are none of ``folds``, the folds of the data, in ascending order.

    They include keys that were added by hand on Dagster's page, which need not be numbers.
    """
    known = {str(fold) for fold in folds}
    gone = set(instance.get_dynamic_partitions(TEST_FOLD_NAME)) - known
    return sorted(gone, key=_by_number)


def _by_number(key: str) -> tuple[float, str]:
    return (int(key) if key.isdecimal() else math.inf, key)


def gone_series(instance: dg.DagsterInstance, catalogue: "pd.DataFrame", store: "CutoutStore") -> list[str]:
    """Return the registered or cut series whose CT was removed, sorted."""
    known = {*instance.get_dynamic_partitions(CT_SERIES_NAME), *store.uids()}
    return sorted(known.difference(catalogue["series_instance_uid"]))


def broken_series(instance: dg.DagsterInstance, catalogue: "pd.DataFrame") -> list[str]:
    """Return the registered series that are no longer readable, sorted."""
    is_readable = catalogue["is_readable"].astype(bool)
    readable, others = (set(catalogue.loc[rows, "series_instance_uid"]) for rows in (is_readable, ~is_readable))
    return sorted((others - readable).intersection(instance.get_dynamic_partitions(CT_SERIES_NAME)))


def versions_by_series(instance: dg.DagsterInstance, asset: str, uids: Iterable[str]) -> dict[str, str]:
    """Return the data version of the newest materialization of each series' partition."""
    # One query on indexed columns; reading the events themselves takes a second for 3,000 of them.
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    return {uid: tags[uid][DATA_VERSION_TAG] for uid in uids if uid in tags}


def failed_series(instance: dg.DagsterInstance, asset: str, uids: Collection[str]) -> set[str]:
    """Return the series whose partition failed."""
    statuses = instance.get_status_by_partition(dg.AssetKey(asset), sorted(uids), CT_SERIES) or {}
    return {uid for uid, status in statuses.items() if status == AssetPartitionStatus.FAILED}
