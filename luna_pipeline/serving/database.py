"""The jobs' database: workflows of DBOS in SQLite or PostgreSQL. All values in it are JSON."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.job import JobsUnavailableError

if TYPE_CHECKING:
    from dbos import DBOSClient, DBOSConfig

APPLICATION = "luna"
# Of the workflows' steps. A new one would leave the jobs of the old one waiting for ever.
APPLICATION_VERSION = "1"
DIAGNOSES = "diagnoses"
"""Name of the queue of diagnoses."""
DIAGNOSE = "diagnose"
"""Name of the workflow that diagnoses a CT; its argument is the job's id."""


def database_address(folders: ServiceFolders, config: ServiceConfig) -> str:
    """Return the address of the jobs' database as SQLAlchemy reads it."""
    from sqlalchemy import URL, make_url

    if config.database:
        # A database in the encoding SQL_ASCII, the default of the locale C, gives bytes instead of text otherwise.
        url = make_url(config.database).update_query_dict({"client_encoding": "utf8"})
        return url.render_as_string(hide_password=False)
    return URL.create("sqlite", database=str(folders.database.resolve())).render_as_string(hide_password=False)


def make_tables(folders: ServiceFolders, config: ServiceConfig) -> None:
    """Create the tables, or bring those of an older version up to date; several processes may do so at once.

    Raises:
        ValueError: If the database belongs to another folder.
    """
    from dbos import DBOS

    folders.create()
    if not config.database:
        with contextlib.closing(sqlite3.connect(folders.database, timeout=30)) as connection:
            # Readers do not wait for a writer. It is a property of the file.
            connection.execute("PRAGMA journal_mode=WAL")
    DBOS.migrate(database_address(folders, config))
    if config.database:
        _claim(folders, config)


def _claim(folders: ServiceFolders, config: ServiceConfig) -> None:
    """Write the folder's id into the database: the workers of another folder would take its jobs."""
    import sqlalchemy as sa

    own_id = folders.identity()
    url = sa.make_url(database_address(folders, config)).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    # Two processes at once cannot make a table.
    with locked(folders.root / "id.lock", waits=True), engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE IF NOT EXISTS service_folder (one INT PRIMARY KEY, id TEXT)"))
        claimed = sa.text("INSERT INTO service_folder VALUES (1, :id) ON CONFLICT DO NOTHING")
        connection.execute(claimed, {"id": own_id})
        if connection.scalar(sa.text("SELECT id FROM service_folder")) != own_id:
            msg = "The jobs' database must be that of the service's folder, got that of another one (database)."
            raise ValueError(f"{msg} Name a database for each folder, or set LUNA_SERVICE_DIR to the other folder.")


def new_client(folders: ServiceFolders, config: ServiceConfig, *, waits: bool = False) -> "DBOSClient":
    """Return a client, which enqueues and reads workflows and runs none.

    Args:
        folders: Place of the SQLite file.
        config: Address of another database.
        waits: Whether calls wait for a database that does not answer; otherwise they raise.
    """
    from dbos import DBOSClient, DBOSPortableJSONSerializer

    return DBOSClient(
        system_database_url=database_address(folders, config),
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        retry_connection_errors=waits,
    )


def dbos_config(folders: ServiceFolders, config: ServiceConfig, *, executor: str) -> "DBOSConfig":
    """Return the configuration of a process that runs workflows under the name ``executor``."""
    from dbos import DBOSPortableJSONSerializer

    return {
        "name": APPLICATION,
        "application_version": APPLICATION_VERSION,
        "executor_id": executor,
        "system_database_url": database_address(folders, config),
        # The default, pickle, would run code that stands in the database.
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "WARNING",
        "enable_otlp": False,
    }


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Raise errors of the database without their texts, which hold addresses and statements.

    Raises:
        OSError: If SQLite's disk is full.
        JobsUnavailableError: For any other error.
    """
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        if isinstance(error, DBAPIError) and getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise JobsUnavailableError from error
