"""CTs that arrive in LUNA_INCOMING_DIR: their catalogue, and since when the files of each series are unchanged.

A series may arrive file by file, in any order, in one folder with others. It is complete once its files have not
changed for ``Settings.incoming_quiet_seconds``. That is measured by the clock of this machine between two looks, not by
the files' times, which copies keep.
"""

import contextlib
import hashlib
import io
import math
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.storage.files import folders_below, sha256_of, write_bytes
from luna_pipeline.core.storage.regular_files import is_regular, shown_name
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

HASHING_SECONDS = 20.0
"""Time after which a look hashes no further series; the next look continues. Dagster ends a sensor after 60 s."""
STATE, SINCE, CONTENT = "state", "unchanged_since", "content"
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar", ".xz", ".bz2", ".zst", ".gz")


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """What LUNA_INCOMING_DIR holds.

    Attributes:
        contents: Digest of the files of each complete, readable series, by uid.
        unreadable: Reason by name of each series or file that is complete and cannot be diagnosed.
        num_arriving: Number of series that have changed within the quiet time, or whose files are not hashed yet.
        present: Uids of all series, complete or not.
    """

    contents: Mapping[str, str]
    unreadable: Mapping[str, str]
    num_arriving: int
    present: frozenset[str] = frozenset()


def catalogue_path(settings: Settings) -> Path:
    """Return the file with the last catalogue; without it all series are read and hashed again."""
    return settings.local_home / "incoming_series.parquet"


def look_at_incoming(
    settings: Settings, *, now: float | None = None, hashing_seconds: float = HASHING_SECONDS
) -> Incoming:
    """Catalogue the incoming series, and hash those that are complete.

    Args:
        settings: Folders, and the quiet time.
        now: Seconds since the epoch; None for the present time.
        hashing_seconds: Time for hashing files; one series is always hashed.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    now = time.time() if now is None else now
    table = incoming_catalogue(settings, now=now)
    is_quiet = now - table[SINCE] >= settings.incoming_quiet_seconds
    ready = table[is_quiet & table["is_readable"] & table[CONTENT].isna()]
    for index, digest in _digests(settings, ready, until=time.monotonic() + hashing_seconds):
        table.loc[index, CONTENT] = digest
    _write(settings, table)
    is_done = is_quiet & (table[CONTENT].notna() | ~table["is_readable"])
    done = table[is_done & table["is_readable"]]
    readable = set(table.loc[table["is_readable"], "series_instance_uid"])
    return Incoming(
        contents=dict(zip(done["series_instance_uid"], done[CONTENT], strict=True)),
        unreadable=_reasons(settings, table[is_quiet], readable=readable),
        num_arriving=int((~is_done).sum()),
        present=frozenset(table["series_instance_uid"]),
    )


def incoming_catalogue(settings: Settings, *, now: float | None = None) -> "pd.DataFrame":
    """Return the catalogue of LUNA_INCOMING_DIR, with rows for archives and other files that are no CT.

    Returns:
        The columns of ``catalogue_series``; ``state``, a digest of what was found of the series; ``unchanged_since``,
        the time of the first look that found this state; ``content``, the digest of its files (null: not hashed yet).

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    import pandas as pd

    from luna_pipeline.core.ct.catalogue_cache import read_kept_catalogue

    _check_folder(settings)
    before = read_kept_catalogue(catalogue_path(settings))
    known: dict[tuple[str, ...], Any] = {}
    if before is not None and {STATE, SINCE, CONTENT} <= set(before.columns):
        known = {_identity(row): row for row in before.itertuples()}
    table = _catalogue(settings, before)
    table[STATE] = [_state(row) for row in table.itertuples()]
    now = time.time() if now is None else now
    rows = [known.get(_identity(row)) for row in table.itertuples()]
    # A clock that was set back must not keep a series waiting.
    since = [now if row is None else min(float(row.unchanged_since), now) for row in rows]
    table[SINCE] = pd.Series(since, index=table.index, dtype="float64")
    table[CONTENT] = pd.Series([None if row is None else row.content for row in rows], index=table.index, dtype=object)
    return table


def files_of_series(settings: Settings, uid: str, table: "pd.DataFrame") -> Sequence[Path]:
    """Return the files of a readable series of a catalogue; the first of a volume is the one that names the others.

    Raises:
        UnreadableCtError: If it is not there, or not readable.
    """
    from luna_pipeline.core.ct.errors import UnreadableCtError

    rows = table[table["series_instance_uid"] == uid]
    readable = rows[rows["is_readable"]]
    if readable.empty:
        reasons = _reasons(settings, rows, readable=())
        rule = f"The series must be in the folder of incoming CTs, got none (series {uid}). Copy it there again."
        raise UnreadableCtError(next(iter(reasons.values()), rule))
    row = next(readable.itertuples())
    path = settings.incoming_dir / str(row.path)
    return _dicom_files(path)[uid] if row.format == "dicom" else _files(path, uid)


def content_of(files: Iterable[Path]) -> str:
    """Return a digest of the content of files; their names and times do not matter."""
    digests = sorted(sha256_of(path) for path in files)
    # Dagster's tags hold at most 63 characters.
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:40]


def contents_of(settings: Settings, table: "pd.DataFrame", *, among: Collection[str] | None = None) -> dict[str, str]:
    """Return the digest of the files of each readable series of a catalogue, or of some; unchanged ones are kept."""
    rows = table[table["is_readable"]]
    rows = rows if among is None else rows[rows["series_instance_uid"].isin(list(among))]
    hashed = dict(_digests(settings, rows[rows[CONTENT].isna()], until=math.inf))
    return {
        str(row.series_instance_uid): str(row.content or hashed[row.Index])
        for row in rows.itertuples()
        if row.content or row.Index in hashed
    }


def gone_incoming(settings: Settings, known: Collection[str]) -> list[str]:
    """Return the known series that are no longer in LUNA_INCOMING_DIR, sorted; none if the folder itself is missing."""
    if not settings.incoming_dir.is_dir():
        return []
    return sorted(set(known) - set(incoming_catalogue(settings)["series_instance_uid"]))


def _check_folder(settings: Settings) -> None:
    if not settings.incoming_dir.is_dir():
        msg = f"The folder of incoming CTs must be there, got none ({settings.incoming_dir}). Make it"
        raise FileNotFoundError(f"{msg}, or set LUNA_INCOMING_DIR.")


def _catalogue(settings: Settings, before: "pd.DataFrame | None") -> "pd.DataFrame":
    import pandas as pd

    from luna_pipeline.core.ct.catalogue import catalogue_series
    from luna_pipeline.core.ct.catalogue_rows import CATALOGUE_COLUMNS

    try:
        root, key = settings.incoming_dir, settings.patient_key()
        table = catalogue_series(root, patient_key=key, kept=before).reset_index(drop=True)
    except FileNotFoundError:
        # An empty folder; one that is missing is an error.
        _check_folder(settings)
        table = pd.DataFrame(columns=list(CATALOGUE_COLUMNS)).astype({"is_readable": "bool"})
    others = list(_other_files(settings.incoming_dir, set(table["path"])))
    rows = [dict.fromkeys(CATALOGUE_COLUMNS) | {**other, "is_readable": False} for other in others]
    return pd.DataFrame([*table.to_dict("records"), *rows], columns=table.columns).astype({"is_readable": "bool"})


def _other_files(root: Path, listed: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield rows for archives, and for folders with files of which none is in the catalogue."""
    from luna_pipeline.core.ct.catalogue_cache import IDLE_SUFFIXES

    for folder, folders, names in folders_below(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [folder / name for name in names if not name.startswith(".")]
        found = {path: path.relative_to(root).as_posix() for path in paths}
        archives = [path for path in paths if path.name.lower().endswith(ARCHIVES) and found[path] not in listed]
        for path in archives:
            reason = f"A CT must be unpacked, got an archive ({shown_name(path)}). Unpack it."
            yield _other(path, found[path], reason)
        rest = [path for path in paths if path not in archives and path.suffix.lower() not in IDLE_SUFFIXES]
        is_listed = folder.relative_to(root).as_posix() in listed or any(name in listed for name in found.values())
        if rest and not is_listed:
            reason = f"A file must be a CT or belong to one, got another ({shown_name(rest[0])}). Take it out."
            yield _other(rest[0], found[rest[0]], reason)


def _other(path: Path, relative: str, reason: str) -> dict[str, Any]:
    status = f"{path.stat().st_size}/{path.stat().st_mtime_ns}" if is_regular(path) else "-"
    name = shown_name(path)
    return {"series_instance_uid": name, "format": "unknown", "path": relative, "reason": reason, "fingerprint": status}


def _identity(row: Any) -> tuple[str, ...]:
    return row.series_instance_uid, row.path, row.state


def _state(row: Any) -> str:
    text = f"{row.fingerprint}\0{row.reason}\0{bool(row.is_readable)}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


def _digests(settings: Settings, rows: "pd.DataFrame", *, until: float) -> Iterator[tuple[Any, str]]:
    """Yield the digest of the files of each row, with the row's index.

    A series whose files change or disappear meanwhile is left out: the next look finds another state.
    """
    folders: dict[str, dict[str, Sequence[Path]]] = defaultdict(dict)
    for row in rows.itertuples():
        with contextlib.suppress(OSError, ValueError, KeyError):
            path, uid = settings.incoming_dir / str(row.path), str(row.series_instance_uid)
            # All headers of a folder are read once.
            if row.format == "dicom" and not folders[str(row.path)]:
                folders[str(row.path)].update(_dicom_files(path))
            yield row.Index, content_of(folders[str(row.path)][uid] if row.format == "dicom" else _files(path, uid))
        if time.monotonic() > until:
            return


def _dicom_files(folder: Path) -> dict[str, Sequence[Path]]:
    """Return the files of each series of a folder; all headers are read once."""
    from luna_pipeline.core.ct.formats.dicom_series import is_dicom_file, scan_dicom_files

    paths = (path for path in folder.iterdir() if is_regular(path) and not path.name.startswith("."))
    found = scan_dicom_files(path for path in paths if is_dicom_file(path))
    return {uid: series.paths for uid, series in found.items()}


def _files(path: Path, uid: str) -> Sequence[Path]:
    from luna_pipeline.core.ct.reading import open_ct

    return [path, *sorted({*open_ct(path, series_instance_uid=uid).files()} - {path})]


def _reasons(settings: Settings, table: "pd.DataFrame", *, readable: Iterable[str]) -> dict[str, str]:
    """Return the reasons of unreadable series by name; a copy of a readable one needs none.

    Folders are often named after patients, so their names are left out.
    """
    reasons: dict[str, str] = {}
    for uid, rows in table[~table["is_readable"] & ~table["series_instance_uid"].isin(list(readable))].groupby(
        "series_instance_uid", sort=True
    ):
        reason, name = str(rows["reason"].iloc[0]), str(uid)
        for number, path in enumerate(sorted(set(rows["path"]) - {"."}, key=len, reverse=True), start=1):
            is_folder = (settings.incoming_dir / path).is_dir()
            shown = f"folder {number}" if is_folder else Path(path).name
            reason = reason.replace(path, shown)
            if is_folder and name == Path(path).name and (rows["format"] == "unknown").all():
                reason, name = reason.replace(name, shown), f"a folder ({rows[STATE].iloc[0][:8]})"
        reasons[name] = reason
    return reasons


def _write(settings: Settings, table: "pd.DataFrame") -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    os.makedirs(settings.local_home, exist_ok=True)
    write_bytes(catalogue_path(settings), buffer.getvalue())
