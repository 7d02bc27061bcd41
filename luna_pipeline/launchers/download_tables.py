"""Download of LUNA16's tables from a server with Zenodo's interface."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.sources.luna16_archives import (
    ANNOTATIONS,
    TABLES,
    PublishedFile,
    files_of_record,
    record_address,
)
from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.core.storage.http_ranges import RefusedError, RetryPolicy
from luna_pipeline.core.storage.range_download import fetch_small
from luna_pipeline.core.storage.zip_members import files_in, open_zip, require_methods, unpack

if TYPE_CHECKING:
    import httpx

_MAX_RECORD_BYTES, _MAX_TABLE_BYTES = 8 << 20, 512 << 20


def download_tables(
    client: "httpx.Client",
    base: str,
    folder: Path,
    *,
    report: Callable[[str], object],
    policy: RetryPolicy,
    stop: threading.Event,
    is_other_edition: bool = False,
) -> tuple[list[str], list[str]]:
    """Write those of LUNA16's tables that are missing; a file of the name is never replaced.

    Args:
        client: Connections of httpx.
        base: Address of the server.
        folder: Data root.
        report: Called with a line for each fault and table.
        policy: Repetition of failed requests.
        stop: Ends the download.
        is_other_edition: Whether ``annotations.csv`` may have another MD5 than the published one.

    Returns:
        Names of the tables that were written, and a line for each that failed.
    """
    missing = [name for name in TABLES if not (folder / name).exists()]
    if not missing:
        return [], []
    fetch = partial(fetch_small, client, report=report, policy=policy, stop=stop)
    try:
        content = fetch(record_address(base), name="The record's description", max_bytes=_MAX_RECORD_BYTES)
        listed = files_of_record(content)
    except (RefusedError, ValueError) as error:
        return [], [f"Tables: {error}"]
    written, failures, fetched = [], [], {}
    for name in missing:
        try:
            published = _published(name, listed, is_other_edition=is_other_edition)
            if published.name not in fetched:
                fetched[published.name] = _fetch(fetch, base, published)
            _write(fetched[published.name], published, folder / name)
        # A file that cannot be written, or an answer that is refused.
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            failures.append(str(error) if str(error).startswith(name) else f"{name}: {error}")
        else:
            written.append(name)
    return written, failures


def _published(name: str, listed: Mapping[str, PublishedFile], *, is_other_edition: bool) -> PublishedFile:
    """Return the file of the record that is, or holds, a table."""
    found = listed.get(name) or listed.get(TABLES[name] or name)
    if found is None:
        msg = f"The record must hold {name} or {TABLES[name]}" if TABLES[name] else f"The record must hold {name}"
        raise ValueError(f"{msg}, got neither. Download it from LUNA16's page, and put it at the top of the folder.")
    if name == ANNOTATIONS.name and not is_other_edition and found != ANNOTATIONS:
        msg = f"{name} must have the MD5 {ANNOTATIONS.md5}, got {found.md5} (record): another edition."
        raise ValueError(f"{msg} Take record {ANNOTATIONS.record} of Zenodo.")
    return found


def _fetch(fetch: Callable[..., bytes], base: str, published: PublishedFile) -> bytes:
    content = fetch(published.address(base), name=published.name, max_bytes=_MAX_TABLE_BYTES)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != published.md5:
        msg = f"MD5 must be {published.md5}, got {found} ({published.name}, {len(content)} bytes)."
        raise ValueError(f"{msg} Nothing of it is kept; run the command again.")
    return content


def _write(content: bytes, published: PublishedFile, path: Path) -> None:
    """Write a table, or unpack it from the zip file that holds it."""
    if published.name == path.name:
        write_bytes(path, content)
        return
    with open_zip(io.BytesIO(content)) as archive:
        members = [it for it in files_in(archive, published.name) if it.filename.rpartition("/")[2] == path.name]
        # Mac's packer adds shadows of the files below __MACOSX, with the same names after "._".
        if len(members) != 1 or members[0].file_size > _MAX_TABLE_BYTES:
            msg = f"{published.name} must hold one {path.name}, got {len(members)}. Download it from LUNA16's page."
            raise ValueError(msg)
        require_methods(members, published.name)
        unpack(archive, members[0], path)
