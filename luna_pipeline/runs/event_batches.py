"""Events of many partitions of an asset, stored together.

Dagster's SQLite storage opens two databases and waits twice for the disk for each event, about 0.05 s. Its own batches
(``DAGSTER_EVENT_BATCH_SIZE``) exist for PostgreSQL only: on SQLite they are stored one by one.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import dagster as dg
from dagster._core.events import (
    AssetMaterializationPlannedData,
    AssetObservationData,
    DagsterEvent,
    StepMaterializationData,
)
from dagster._core.storage.event_log import SqliteEventLogStorage

from luna_pipeline.runs.storage_faults import storage_guard

MAX_EVENTS = 100
MAX_SECONDS = 2.0
"""Events wait at most this long before the next one stores them: series that take longer are shown one by one."""

_PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
_MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION
_OBSERVED = dg.DagsterEventType.ASSET_OBSERVATION
_ORDER = [_PLANNED, _MATERIALIZED, _OBSERVED]
_Data: TypeAlias = AssetMaterializationPlannedData | StepMaterializationData | AssetObservationData


class EventBatch:
    """Collects events and log lines of a step, and stores them together.

    The events are the same as those of ``context.log_event``, with the time at which they were added. If the process is
    killed, those since the last ``flush`` are lost. Use it as a context manager: its end stores the rest.

    Args:
        context: Of the asset.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._events: list[dg.EventLogEntry] = []
        self._lines: list[tuple[int, str]] = []
        self._stored = time.monotonic()

    def __enter__(self) -> "EventBatch":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def plan(self, asset: str, partition: str) -> None:
        """Add the event that the run will materialize a partition."""
        self._add(_PLANNED, partition, AssetMaterializationPlannedData(dg.AssetKey(asset), partition))

    def materialize(self, event: dg.AssetMaterialization) -> None:
        """Add a materialization."""
        self._add(_MATERIALIZED, event.partition, StepMaterializationData(event))

    def observe(self, event: dg.AssetObservation) -> None:
        """Add an observation."""
        self._add(_OBSERVED, event.partition, AssetObservationData(event))

    def log(self, level: int, line: str) -> None:
        """Add a line of the run's log. Lines of one level become one message."""
        self._lines.append((level, line))

    def flush_if_due(self) -> None:
        """Store what was added, if it is much or was not done lately."""
        num_waiting = max(len(self._events), len(self._lines))
        if num_waiting >= MAX_EVENTS or time.monotonic() - self._stored >= MAX_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store what was added."""
        # Emptied first: after an error or an interrupt nothing is stored twice.
        events, self._events = self._events, []
        lines, self._lines = self._lines, []
        with storage_guard(self._context.instance, self._context.run.run_id):
            store_events(self._context.instance, events)
        for level in sorted({level for level, _ in lines}):
            self._context.log.log(level, "%s", "\n".join(line for own, line in lines if own == level))
        self._stored = time.monotonic()

    def _add(self, kind: dg.DagsterEventType, partition: str | None, data: _Data) -> None:
        step = self._context.get_step_execution_context()
        message = f"{kind.value} of partition {partition}"
        event = DagsterEvent(
            event_type_value=kind.value,
            job_name=step.job_name,
            step_handle=step.step.handle,
            node_handle=step.step.node_handle,
            step_kind_value=step.step.kind.value,
            logging_tags=step.event_tags,
            event_specific_data=data,
            message=message,
            pid=os.getpid(),
        )
        entry: dg.EventLogEntry = dg.EventLogEntry(  # type: ignore[no-untyped-call]
            error_info=None,
            level=logging.DEBUG,
            user_message=message,
            run_id=step.run_id,
            timestamp=time.time(),
            step_key=step.step.key,
            job_name=step.job_name,
            dagster_event=event,
        )
        self._events.append(entry)


def store_events(instance: dg.DagsterInstance, events: Sequence[dg.EventLogEntry]) -> None:
    """Store asset events of one run; those of one type and asset in two transactions."""
    storage = instance.event_log_storage
    for batch in _by_type(events):
        if isinstance(storage, SqliteEventLogStorage):
            _store_in_sqlite(storage, batch)
        else:
            storage.store_event_batch(batch)


def _by_type(events: Sequence[dg.EventLogEntry]) -> Iterator[list[dg.EventLogEntry]]:
    """Group events by type, planned ones first: PostgreSQL stores a batch of one type at once."""
    for kind in _ORDER:
        if batch := [event for event in events if event.get_dagster_event().event_type == kind]:
            yield batch


def _store_in_sqlite(storage: SqliteEventLogStorage, events: list[dg.EventLogEntry]) -> None:
    """Do for many events what the storage's ``store_event`` does for one: the run's database, then the index."""
    inserts = [storage.prepare_insert_event(event) for event in events]
    with storage.run_connection(events[0].run_id) as connection:
        for insert in inserts:
            connection.execute(insert)
    with storage.index_transaction() as connection:
        results = [connection.execute(insert) for insert in inserts]
        ids = [key[0] for result in results if (key := result.inserted_primary_key)]
        storage._store_asset_event_tags(connection, events, ids)
        # The row of the asset names its last event.
        storage._store_asset_event(connection, events[-1], ids[-1])
