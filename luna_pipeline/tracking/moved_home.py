"""MLflow's SQLite file of a home that was moved or copied: the addresses of its artifacts get the new place.

MLflow records absolute addresses. Without new ones, runs of a moved home would be looked for, and written, at the old
place.
"""

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from luna_pipeline.tracking.outbox import TrackerUnavailableError

_log = logging.getLogger(__name__)

ARTIFACTS = "mlartifacts"
LOCK_SECONDS = 8
_COLUMNS = {"artifact_location", "artifact_uri", "source", "storage_location"}


def adopt_moved_home(database: Path, artifacts: Path) -> list[str]:
    """Rewrite addresses of another place's ``mlartifacts`` in one transaction, and return those of the old folders.

    Args:
        database: MLflow's SQLite file, in the home; nothing is done if it does not exist.
        artifacts: The home's folder ``mlartifacts``. Addresses of other folders (another name, S3) are kept.

    Raises:
        TrackerUnavailableError: If another program locks the database.
        OSError: If addresses have to be rewritten and the file cannot be written.
    """
    if not database.is_file():
        return []
    new, uri = artifacts.as_uri(), f"{database.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(
            sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None)
        ) as connection:
            if not _old_roots(connection, artifacts):
                return []
            connection.execute("BEGIN IMMEDIATE")
            # Looked for again: another process may have rewritten them meanwhile.
            roots = _old_roots(connection, artifacts)
            for root in roots:
                _rewrite(connection, root, new)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        if "locked" in str(error):
            msg = f"MLflow's database must be free at the start, got one locked for {LOCK_SECONDS} s ({database})."
            raise TrackerUnavailableError(f"{msg} End the program that holds it, and start again.") from error
        msg = f"MLflow's database of a moved home must be rewritten, got {error} ({database}). Make it writable."
        raise OSError(msg) from error
    for root in roots:
        old = local_folder(root)
        _log.warning("The home was moved: MLflow's artifacts are now in %s, no longer in %s.", artifacts, old)
    return roots


def _old_roots(connection: sqlite3.Connection, artifacts: Path) -> list[str]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "experiments" not in tables:
        return []
    found = [uri for (uri,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments")]
    here = os.path.realpath(artifacts)
    return [
        uri
        for uri in found
        if (folder := local_folder(uri)) is not None
        and folder.name == ARTIFACTS
        and os.path.realpath(folder) != here
        # A database that is used by several homes stays as it is.
        and (artifacts.is_dir() or not folder.exists())
    ]


def _rewrite(connection: sqlite3.Connection, old: str, new: str) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        columns = {row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')}
        for column in sorted(columns & _COLUMNS):
            # The names are those of the schema; the values are parameters.
            connection.execute(
                f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) '
                f'WHERE "{column}" = ? OR substr("{column}", 1, ?) = ?',
                (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
            )


def local_folder(uri: str | None) -> Path | None:
    """Return the folder of a file's address, None for another address."""
    parts = urlsplit(uri or "")
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
