"""Dagster's SQLite databases as copies of empty ones.

For each new database, and each run has one, Dagster imports all its migrations twice: a tenth of a second of
computation, and three tenths for an instance. The tests execute a thousand runs.
"""

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

DATABASES = ("schedules/schedules.db", "history/runs.db", "history/runs/index.db")
OF_A_RUN = "history/runs/of_a_run.db"


@functools.cache
def _empty() -> "tempfile.TemporaryDirectory[str]":
    """Folder of an instance with the databases that Dagster itself makes, and that of a run without events."""
    folder = tempfile.TemporaryDirectory(prefix="luna-empty-dagster-")
    with _instance(Path(folder.name)) as instance, instance.event_log_storage.run_connection(Path(OF_A_RUN).stem):
        pass
    return folder


def _instance(folder: Path) -> contextlib.AbstractContextManager[dg.DagsterInstance]:
    return dg.DagsterInstance.local_temp(str(folder), overrides={"telemetry": {"enabled": False}})


@contextlib.contextmanager
def local_instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    """Instance of Dagster on SQLite below a folder, as an empty ``dagster.yaml`` gives it."""
    empty, make = Path(_empty().name), SqliteEventLogStorage._initdb
    for name in DATABASES:
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(empty / name, folder / name)

    def copy(self: SqliteEventLogStorage, engine: Any, for_index_shard: bool = False) -> None:
        database = Path(engine.url.database)
        if database.exists() or for_index_shard:
            make(self, engine, for_index_shard)
        else:
            shutil.copyfile(empty / OF_A_RUN, database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteEventLogStorage, "_initdb", copy)
        with _instance(folder) as instance:
            yield instance
