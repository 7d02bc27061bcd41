"""Events that are stored together are the same as Dagster's own, for a fraction of its transactions."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from luna_pipeline.runs import event_batches
from luna_pipeline.runs.event_batches import EventBatch

ASSET = "things"
KEYS = [f"key{number:02d}" for number in range(30)]
THINGS = dg.DynamicPartitionsDefinition(name="thing")
Events = Callable[[dg.AssetExecutionContext], None]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as made:
        made.add_dynamic_partitions("thing", KEYS)
        yield made


def run(instance: dg.DagsterInstance, log: Events, *, is_failing: bool = False) -> str:
    """Run an asset that logs events of its partitions and yields nothing, as `cutouts`; return the run's id."""

    @dg.multi_asset(specs=[dg.AssetSpec(ASSET, partitions_def=THINGS, skippable=True)])
    def things(context: dg.AssetExecutionContext):
        log(context)
        if is_failing:
            raise dg.Failure("as asked", allow_retries=False)
        yield from ()

    job = dg.Definitions(assets=[things], jobs=[dg.define_asset_job("make", [things])]).resolve_job_def("make")
    return job.execute_in_process(instance=instance, raise_on_error=False).run_id


def made(key: str, version: str = "1") -> dg.AssetMaterialization:
    tags = {"dagster/data_version": f"{key}-{version}", "dagster/code_version": "7"}
    return dg.AssetMaterialization(ASSET, partition=key, metadata={"outcome": "cut", "seconds": 0.25}, tags=tags)


def one_by_one(context: dg.AssetExecutionContext) -> None:
    for key in KEYS:
        context.log_event(made(key))
    context.log_event(dg.AssetObservation(ASSET, partition=KEYS[3], metadata={"failed": "no disk"}))


def together(context: dg.AssetExecutionContext) -> None:
    with EventBatch(context) as batch:
        for key in KEYS:
            batch.materialize(made(key))
        batch.observe(dg.AssetObservation(ASSET, partition=KEYS[3], metadata={"failed": "no disk"}))


def content(instance: dg.DagsterInstance, run_id: str) -> dict:
    """All that the page and later runs read of the asset."""
    storage, key = instance.event_log_storage, dg.AssetKey(ASSET)
    entries = [record.event_log_entry for record in instance.get_records_for_run(run_id).records]
    kinds = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION)
    latest = instance.get_latest_materialization_event(key)
    tags = [dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]]
    statuses = instance.get_status_by_partition(key, KEYS, THINGS)
    with storage.index_connection() as connection:
        row = connection.exec_driver_sql("SELECT last_materialization, last_run_id FROM asset_keys").one()
    return {
        "row of the asset": (KEYS[-1] in str(row[0]), row[1] == run_id),
        "in the run": [
            (entry.dagster_event.event_type, entry.dagster_event.partition, entry.step_key, entry.level)
            for entry in entries
            if entry.dagster_event and entry.dagster_event.event_type in kinds
        ],
        "materializations": [
            record.asset_materialization for record in instance.fetch_materializations(key, limit=99).records
        ],
        "observations": [
            (record.partition_key, record.asset_event.metadata)
            for record in instance.fetch_observations(key, limit=99).records
        ],
        "latest": latest.asset_materialization,
        "versions": storage.get_latest_tags_by_partition(key, *tags),
        "statuses": statuses,
    }


def count_connections(instance: dg.DagsterInstance, patch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the name of a database whenever Dagster opens it for events."""
    storage, opened = instance.event_log_storage, []
    connect = storage._connect

    @contextlib.contextmanager
    def counted(shard: str):
        opened.append(shard)
        with connect(shard) as connection:
            yield connection

    patch.setattr(storage, "_connect", counted)
    return opened


def test_events_are_the_same_as_those_that_dagster_logs_itself(instance: dg.DagsterInstance, tmp_path: Path):
    (tmp_path / "other").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "other"), overrides={"telemetry": {"enabled": False}}) as other:
        other.add_dynamic_partitions("thing", KEYS)
        expected = content(other, run(other, one_by_one))
    assert content(instance, run(instance, together)) == expected
    assert len(expected["versions"]) == len(KEYS)


def test_thirty_events_take_four_connections_instead_of_sixty(instance: dg.DagsterInstance, monkeypatch):
    run(instance, together)
    opened = count_connections(instance, monkeypatch)
    idle = len(opened)
    run(instance, lambda _context: None)
    idle = len(opened)
    opened.clear()
    run(instance, together)
    assert len(opened) - idle == 4
    opened.clear()
    run(instance, one_by_one)
    assert len(opened) - idle >= 60


def test_lines_of_a_level_are_one_message(instance: dg.DagsterInstance):
    def log(context: dg.AssetExecutionContext) -> None:
        with EventBatch(context) as batch:
            for key in KEYS:
                batch.log(logging.INFO, f"cut {key} at 100 %")
            batch.log(logging.ERROR, "Series x failed: %s")

    records = instance.get_records_for_run(run(instance, log)).records
    lines = [entry for record in records if not (entry := record.event_log_entry).dagster_event]
    assert [(entry.level, entry.user_message.count("\n")) for entry in lines] == [
        (logging.INFO, 29),
        (logging.ERROR, 0),
    ]
    assert lines[0].user_message.startswith("cut key00 at 100 %\ncut key01")
    assert lines[1].user_message == "Series x failed: %s"


def test_planned_partitions_without_materialization_are_shown_as_failed_until_they_are_made(
    instance: dg.DagsterInstance,
):
    def fail(context: dg.AssetExecutionContext) -> None:
        with EventBatch(context) as batch:
            batch.materialize(made(KEYS[0]))
            for key in KEYS[1:4]:
                batch.observe(dg.AssetObservation(ASSET, partition=key, metadata={"failed": "no disk"}))
                batch.plan(ASSET, key)

    run(instance, fail, is_failing=True)
    shown = instance.get_status_by_partition(dg.AssetKey(ASSET), KEYS[:5], THINGS)
    assert [status and status.value for status in shown.values()] == ["MATERIALIZED", *["FAILED"] * 3, None]
    run(instance, together)
    shown = instance.get_status_by_partition(dg.AssetKey(ASSET), KEYS, THINGS)
    assert {status.value for status in shown.values()} == {"MATERIALIZED"}


def test_many_events_are_stored_at_once_and_slow_ones_when_the_next_is_there(instance, monkeypatch):
    stored: list[int] = []
    clock = [100.0]
    monkeypatch.setattr(event_batches, "store_events", lambda _instance, events: stored.append(len(events)))
    monkeypatch.setattr(event_batches.time, "monotonic", lambda: clock[0])

    def log(context: dg.AssetExecutionContext) -> None:
        with EventBatch(context) as batch:
            for _ in range(250):
                batch.materialize(made("key00"))
                batch.flush_if_due()
            for _ in range(3):
                clock[0] += 2.5
                batch.materialize(made("key00"))
                batch.flush_if_due()
            batch.materialize(made("key00"))

    run(instance, log)
    assert stored == [100, 100, 51, 1, 1, 1]


def test_an_error_in_the_middle_loses_no_event_and_stores_none_twice(instance: dg.DagsterInstance):
    def log(context: dg.AssetExecutionContext) -> None:
        with EventBatch(context) as batch:
            batch.materialize(made(KEYS[0]))
            batch.flush()
            batch.materialize(made(KEYS[1]))
            raise OSError("The disk is full")

    run(instance, log)
    records = instance.fetch_materializations(dg.AssetKey(ASSET), limit=9).records
    assert sorted(record.partition_key for record in records) == KEYS[:2]


def test_a_storage_that_fails_once_stores_nothing_twice_and_its_error_is_the_runs(instance, monkeypatch):
    calls = []

    def store_events(_instance: dg.DagsterInstance, events: list) -> None:
        calls.append(len(events))
        if events:
            raise OSError("database is locked")

    monkeypatch.setattr(event_batches, "store_events", store_events)
    run_id = run(instance, together)
    assert calls == [31]
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE
