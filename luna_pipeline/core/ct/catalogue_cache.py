"""Rows of an earlier catalogue for folders in which no file has changed since.

A folder's stat digest is a keyed digest of the names, sizes and times of its files. Each row of the folder records it.
While it stays the same, no file of the folder is opened.
"""

import hashlib
import hmac
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.storage.files import AnyPath
from luna_pipeline.core.storage.table_files import read_table_file

if TYPE_CHECKING:
    import pandas as pd

# Raise it when the same files give other rows than before.
_RULES = b"3"
# Files next to CTs that are no part of them.
IDLE_SUFFIXES = {".csv", ".xml", ".txt", ".json", ".npz", ".png", ".pdf", ".md", ".zip", ".xz"}


def stat_digest_of(folder: Path, files: Sequence[Path], *, data_root: Path, patient_key: bytes) -> str:
    """Return the stat_digest of a folder.

    Args:
        folder: The folder; its path below the data root is part of its rows.
        files: Its files, sorted.
        data_root: Root of the catalogue.
        patient_key: Key of the patients' hashes; another key invalidates all earlier rows.
    """
    digest = hmac.new(patient_key, _RULES, hashlib.sha256)
    digest.update(f"{folder.relative_to(data_root).as_posix()}\n".encode(errors="surrogateescape"))
    for path in files:
        if is_in_stat_digest(path, folder):
            digest.update(f"{path.name}\0{_state(path)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def is_in_stat_digest(path: Path, folder: Path) -> bool:
    """Return whether a folder's stat_digest changes with this file."""
    return path.parent == folder and not path.name.startswith(".") and path.suffix.lower() not in IDLE_SUFFIXES


def num_rows_kept(catalogue: "pd.DataFrame", kept: "pd.DataFrame | None") -> int:
    """Return how many rows of a catalogue were adopted from an earlier one."""
    if kept is None or "stat_digest" not in kept:
        return 0
    return int(catalogue["stat_digest"].dropna().isin(kept["stat_digest"]).sum())


def read_kept_catalogue(path: AnyPath) -> "pd.DataFrame | None":
    """Return the catalogue in a parquet file, None where there is no readable one."""
    try:
        # Tables of earlier versions call the column `glance`.
        return read_table_file(path, advice="Remove it.").rename(columns={"glance": "stat_digest"})
    # It only saves time: without it the folders are read.
    except (OSError, ValueError):
        return None


def kept_rows(kept: "pd.DataFrame | None", *, columns: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of an earlier catalogue by their folder's stat_digest.

    Args:
        kept: The earlier catalogue, also as read from parquet; a table without the columns gives no rows.
        columns: Columns of a catalogue.

    Returns:
        Rows as they were before duplicates were marked: those depend on the other folders.
    """
    if kept is None or not set(columns) <= set(kept.columns):
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for record in kept[list(columns)].to_dict("records"):
        row = {str(column): _plain(value) for column, value in record.items()}
        if isinstance(row["stat_digest"], str):
            # Only readable series have a size.
            if row["size_irc"] is not None:
                row.update(is_readable=True, reason=None)
            found.setdefault(row["stat_digest"], []).append(row)
    return found


def _state(path: Path) -> str:
    """Return size, time and permissions of a file: missing permission can be a reason."""
    try:
        status = path.stat()
    # A dangling link; its target may appear.
    except OSError:
        return "gone"
    return f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_mode}\0{status.st_uid}"


def _plain(value: Any) -> Any:
    """Return a cell as it was written: parquet returns lists as arrays, and null as one of several values."""
    import pandas as pd

    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if value is pd.NA or (isinstance(value, float) and math.isnan(value)) else value
