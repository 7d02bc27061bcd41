"""What Dagster has recorded of the assets, checks, runs and automations."""

from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from luna_pipeline.overview.graph import ASSETS, AUTOMATIONS, CHECKS
from luna_pipeline.overview.runs import reason_of, run_rows
from luna_pipeline.overview.states import AssetState, AutomationState, FailedCheck
from luna_pipeline.partitions import CT_SERIES, FAILED, INCOMING_SERIES, TEST_FOLDS

_PARTITIONS = {partitions.name: partitions for partitions in (CT_SERIES, TEST_FOLDS, INCOMING_SERIES)}
_INPUT_VERSION, _VERSION = "dagster/input_data_version/", "dagster/data_version"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def asset_states(instance: dg.DagsterInstance) -> list[AssetState]:
    """Return the state of each asset, with the assets that it was made of and that have changed since."""
    records = {
        record.asset_entry.asset_key.to_user_string(): record.asset_entry
        for record in instance.get_asset_records([dg.AssetKey(name) for name in ASSETS])
    }
    # Of an asset with partitions, another partition may have been made since.
    versions = {name: _tags(entry).get(_VERSION) for name, entry in records.items() if not ASSETS[name]}
    return [_state_of(instance, name, records.get(name), versions) for name in ASSETS]


def _state_of(instance: dg.DagsterInstance, name: str, entry: Any, versions: dict[str, str | None]) -> AssetState:
    state, partitions = AssetState(name), ASSETS[name]
    event = entry.last_materialization_record if entry is not None else None
    if event is not None:
        state.made_at = f"{datetime.fromtimestamp(event.timestamp):%Y-%m-%d %H:%M}"
    if partitions:
        keys = instance.get_dynamic_partitions(partitions)
        made = instance.get_materialized_partitions(dg.AssetKey(name)) if event is not None else set()
        state.num_made, state.num_partitions = len(made.intersection(keys)), len(keys)
        state.failed = _failed_partitions(instance, name, partitions, keys) if entry is not None else {}
        return state
    state.num_made = int(event is not None)
    state.failed = _failure(instance, entry)
    tags = _tags(entry)
    state.stale = [
        f"{used} has changed since"
        for used, version in versions.items()
        if version and tags.get(f"{_INPUT_VERSION}{used}", version) not in (version, "")
    ]
    return state


def _tags(entry: Any) -> dict[str, str]:
    event = entry.last_materialization_record if entry is not None else None
    made = event.asset_materialization if event is not None else None
    return dict(made.tags or {}) if made is not None else {}


def _failure(instance: dg.DagsterInstance, entry: Any) -> dict[str, str]:
    """Return why the last run that planned an asset failed, unless it made the asset."""
    run_id = entry.last_run_id if entry is not None else None
    made = entry.last_materialization_record if entry is not None else None
    run = instance.get_run_by_id(run_id) if run_id and (made is None or made.run_id != run_id) else None
    return {"": reason_of(instance, run)} if run is not None and run.is_failure else {}


def _failed_partitions(instance: dg.DagsterInstance, name: str, partitions: str, keys: Any) -> dict[str, str]:
    key = dg.AssetKey(name)
    statuses = instance.get_status_by_partition(key, keys, _PARTITIONS[partitions]) or {}
    failed = [partition for partition, status in statuses.items() if status == AssetPartitionStatus.FAILED]
    return {partition: _reason_of_partition(instance, key, partition) for partition in failed}


def _reason_of_partition(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> str:
    """Return the reason in the newest observation of a series; of a fold, that of the run that failed last."""
    chosen = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    for record in instance.fetch_observations(chosen, limit=1).records:
        seen = record.event_log_entry.asset_observation
        if seen is not None and FAILED in seen.metadata:
            return " ".join(str(seen.metadata[FAILED].value).split())
    tags = {"dagster/partition": partition}
    for run in instance.get_runs(dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.FAILURE]), limit=20):
        if run.asset_selection is None or key in run.asset_selection:
            return reason_of(instance, run)
    return "see its run in Dagster"


def failed_checks(instance: dg.DagsterInstance) -> list[FailedCheck]:
    """Return the checks whose newest result is a failure."""
    keys = [dg.AssetCheckKey(dg.AssetKey(asset), name) for asset, names in CHECKS.items() for name in names]
    found = []
    for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).items():
        event = record.event.dagster_event if record.event is not None else None
        # A check that is planned or was interrupted has no result.
        if event is None or event.event_type != dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            continue
        result = event.asset_check_evaluation_data
        if not result.passed:
            text = " ".join((result.description or "").split())
            name = f"{key.asset_key.to_user_string()}.{key.name}"
            found.append(FailedCheck(name, result.severity.value.lower(), text))
    return sorted(found, key=lambda one: one.name)


def runs_in_progress(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    """Return the runs in progress or waiting, without runs inside others."""
    return run_rows(instance, limit=20, statuses=_UNFINISHED)


def last_failed_runs(instance: dg.DagsterInstance, limit: int) -> list[dict[str, Any]]:
    """Return the last failed runs; ``is_over`` if the same job has succeeded since."""
    rows = run_rows(instance, limit=limit, statuses=[dg.DagsterRunStatus.FAILURE])
    return [{**row, "is_over": _has_succeeded_since(instance, row)} for row in rows]


def _has_succeeded_since(instance: dg.DagsterInstance, row: dict[str, Any]) -> bool:
    chosen = dg.RunsFilter(job_name=row["job"], statuses=[dg.DagsterRunStatus.SUCCESS])
    failed, last = instance.get_run_record_by_id(row["run_id"]), instance.get_run_records(chosen, limit=1)
    return bool(last) and failed is not None and last[0].create_timestamp > failed.create_timestamp


def automations(instance: dg.DagsterInstance) -> list[AutomationState]:
    """Return sensors and schedules with what their last tick did."""
    states = {state.instigator_name: state for state in instance.all_instigator_state()}
    found = []
    for name, is_on in AUTOMATIONS.items():
        state = states.get(name)
        if state is None:
            found.append(AutomationState(name, is_on))
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        found.append(AutomationState(name, state.is_running, _tick_in_words(ticks[0]) if ticks else ""))
    return found


def _tick_in_words(tick: Any) -> str:
    status = tick.status.value.lower()
    reason = tick.skip_reason or (tick.error.message if tick.error else "")
    when = f"{datetime.fromtimestamp(tick.timestamp):%Y-%m-%d %H:%M}"
    return f"{when} {status}" + (f": {' '.join(reason.split())}" if reason else "")
