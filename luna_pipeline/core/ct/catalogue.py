"""Catalogue of the CTs below a data root, a row a series, from headers alone.

Any folder layout is accepted. A folder ``subset<k>`` holds series of LUNA16's subset k. LUNA16's lung masks
(``seg-lungs*``), which have the CTs' names, and hidden files are skipped.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.ct.catalogue_cache import is_in_stat_digest, kept_rows, stat_digest_of
from luna_pipeline.core.ct.catalogue_rows import (
    CATALOGUE_COLUMNS,
    GRID_COLUMNS,
    Row,
    odd_row,
    rows_of_folder,
    shown_path,
)
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.one_file_a_series import leave_one_file_a_series
from luna_pipeline.core.ct.reading import FORMATS
from luna_pipeline.core.storage.files import folders_below, is_name
from luna_pipeline.core.storage.regular_files import shown_name

if TYPE_CHECKING:
    import pandas as pd

MAX_UID_LETTERS = 64
"""Letters of a series uid: DICOM's limit, and that of the tables."""


IsScan = Callable[[Path], bool]
"""Whether a volume file is a CT by its name; masks are not."""


def catalogue_series(
    data_root: Path,
    *,
    patient_key: bytes,
    kept: "pd.DataFrame | None" = None,
    folder: Path | None = None,
    is_scan: IsScan | None = None,
) -> "pd.DataFrame":
    """List every series below a folder.

    Args:
        data_root: Folder with MetaImage, NRRD or NIfTI files and DICOM folders, at any depth.
        patient_key: Key of the patients' hashes; the ids themselves are not kept.
        kept: An earlier catalogue. Rows of folders whose files have unchanged names, sizes and times are adopted
            without opening these files.
        folder: Folder at or below the data root to which the search is limited; None for the data root.
        is_scan: Files that are not accepted are skipped; None accepts all.

    Returns:
        A row a series found, sorted by series_instance_uid, then path, with ``CATALOGUE_COLUMNS``: path relative to
        the data root; size, spacing, origin and direction as in ``VoxelGrid``; subset (Int64, null where unknown);
        patient_hash, the scanner's manufacturer and slice_thickness_mm (0018,0050), known of DICOM only; fingerprint
        of header, names, sizes and times of the files; stat_digest of the folder (null where it must be read again);
        num_bytes of the data files; is_readable,
        else the reason; notes on what was ignored in a readable series. Uids are unique among readable rows: of equal
        copies one is readable, of different files none.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no CT.
    """
    known = kept_rows(kept, columns=CATALOGUE_COLUMNS)
    rows = rows_below(data_root, patient_key=patient_key, known=known, folder=folder, is_scan=is_scan)
    return catalogue_of_rows(rows)


def catalogue_of_rows(rows: list[Row]) -> "pd.DataFrame":
    """Return rows as a catalogue, with the types of its columns."""
    import pandas as pd

    for row in rows:
        # Names of files that are no UTF-8 are a part of some reasons; tables hold UTF-8.
        row["reason"] = row["reason"] and row["reason"].encode(errors="backslashreplace").decode()
    frame = pd.DataFrame(rows, columns=list(CATALOGUE_COLUMNS))
    types = {"subset": "Int64", "slice_thickness_mm": "float64", "num_bytes": "Int64", "is_readable": "bool"}
    return frame.astype(types)


def rows_below(
    data_root: Path,
    *,
    patient_key: bytes,
    known: Mapping[str, list[Row]] | None = None,
    folder: Path | None = None,
    is_scan: IsScan | None = None,
) -> list[Row]:
    """Return the rows of the catalogue; those read from files now say whether they are of a CT, in ``is_ct``.

    Args:
        data_root: As for ``catalogue_series``.
        patient_key: As for ``catalogue_series``.
        known: Rows that are adopted, by the stat_digest of their folder.
        folder: As for ``catalogue_series``.
        is_scan: As for ``catalogue_series``.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no CT.
    """
    root = folder or data_root
    if not root.is_dir():
        msg = f"The data folder must be there, got {root} (no such folder). Make it and put CTs into it."
        raise FileNotFoundError(msg)
    rows: list[Row] = []
    unlisted: list[Row] = []
    for place, found in _files_below(
        root, lambda place, error: unlisted.append(_unlisted_row(place, error, data_root))
    ):
        files = found if is_scan is None else [path for path in found if is_scan(path)]
        stat_digest = stat_digest_of(place, files, data_root=data_root, patient_key=patient_key)
        rows += (known or {}).get(stat_digest) or _rows_of(
            place, files, data_root=data_root, patient_key=patient_key, stat_digest=stat_digest
        )
    rows += unlisted
    if not rows:
        raise FileNotFoundError(
            f"The data folder must hold CTs ({', '.join(FORMATS)} or DICOM), got none (below {root}). Copy CTs there."
        )
    return settled(rows, data_root)


def settled(rows: list[Row], data_root: Path) -> list[Row]:
    """Return rows sorted by uid and path, after marking, in place, odd names and several files of one series."""
    _refuse_names(rows, data_root)
    rows.sort(key=lambda row: (row["series_instance_uid"], row["path"]))
    leave_one_file_a_series(rows, data_root)
    return rows


def _rows_of(
    folder: Path, files: Sequence[Path], *, data_root: Path, patient_key: bytes, stat_digest: str
) -> list[Row]:
    rows = rows_of_folder(folder, files, data_root=data_root, patient_key=patient_key)
    # Changes of voxels in another folder do not change this folder's digest.
    is_all_seen = all(is_in_stat_digest(path, folder) for row in rows for path in row.pop("data_files"))
    return [row | {"stat_digest": stat_digest if is_all_seen else None} for row in rows]


def unreadable_series(catalogue: "pd.DataFrame") -> dict[str, str]:
    """Return the reason by uid of each series of a catalogue without a readable file; other files are copies."""
    is_readable = catalogue["is_readable"].astype(bool)
    readable, others = set(catalogue.loc[is_readable, "series_instance_uid"]), catalogue[~is_readable]
    reasons = zip(others["series_instance_uid"], others["reason"], strict=True)
    return {uid: str(reason) for uid, reason in reasons if uid not in readable}


def scan_key(fingerprint: str, series_instance_uid: str, path: Path) -> str:
    """Return the key of what is kept of a scan: another one for another series, place or state of the files.

    The catalogue's fingerprint alone is no key: files of two series may have equal names, sizes and times.

    Args:
        fingerprint: The catalogue's.
        series_instance_uid: The series.
        path: Its file or folder.
    """
    state = "\0".join((fingerprint, series_instance_uid, path.absolute().as_posix()))
    return hashlib.sha256(state.encode(errors="surrogateescape")).hexdigest()


def describe_notes(catalogue: "pd.DataFrame") -> list[str]:
    """Return a line for each note on readable series; one for all series of a file with the same note."""
    noted = catalogue[catalogue["notes"].notna()]
    lines = []
    for (path, notes), rows in noted.groupby(["path", "notes"], sort=False, observed=True):
        lines.append(f"Note on {path}{f' ({len(rows)} series)' * (len(rows) > 1)}: {notes}")
    return lines


def grid_of_row(row: Any) -> VoxelGrid:
    """Return the grid of a catalogue row (a mapping or a Series).

    Raises:
        UnreadableCtError: If the row's series is not readable.
    """
    if not row["is_readable"]:
        msg = (
            f"A series must be readable, got {row['reason']!r} (series {row['series_instance_uid']}). Repair its files."
        )
        raise UnreadableCtError(msg)
    num_slices, num_rows, num_cols = (int(value) for value in row["size_irc"])
    col_mm, row_mm, index_mm = (float(value) for value in row["spacing_mm"])
    x_mm, y_mm, z_mm = (float(value) for value in row["origin_xyz"])
    direction = tuple(float(value) for value in row["direction"])
    return VoxelGrid((num_slices, num_rows, num_cols), (col_mm, row_mm, index_mm), (x_mm, y_mm, z_mm), direction)


def _files_below(root: Path, on_error: Callable[[Path, OSError], object]) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each folder that may hold CTs with its files, sorted."""
    for folder, folders, names in folders_below(root, on_error=on_error):
        folders[:] = [name for name in folders if not name.startswith((".", "seg-lungs"))]
        yield folder, [folder / name for name in names if not name.startswith(".")]


def _unlisted_row(folder: Path, error: OSError, data_root: Path) -> Row:
    rule = f"A folder must be readable, got {error.strerror} ({shown_name(folder)})."
    row = odd_row(folder, data_root, f"{rule} Give permission, shorten its path, or take the link out.")
    return {column: row[column] for column in CATALOGUE_COLUMNS}


def _refuse_names(rows: list[Row], data_root: Path) -> None:
    """Mark series that no file and no table can name."""
    for row in rows:
        uid, path = row["series_instance_uid"], data_root / row["path"]
        if row["is_readable"] and not (is_name(uid) and len(uid) <= MAX_UID_LETTERS):
            shown = shown_name(Path(uid))
            rule = f"A series must be named by 1 to {MAX_UID_LETTERS} letters, digits, '.', '-', '_', got {shown!r}"
            _refuse(row, f"{rule} ({shown_path(path, data_root)}). Rename the file or the folder.")
        elif row["is_readable"] and not _is_text(row["path"]):
            rule = f"The path of a CT must be UTF-8, got {shown_path(path, data_root)} (series {uid})."
            _refuse(row, f"{rule} Rename its folders.")
        if row["size_irc"] is None:
            # Only for people from here on: one printable line, as tables and logs need it.
            row.update(series_instance_uid=shown_name(Path(uid)), path=shown_path(path, data_root))


def _refuse(row: Row, reason: str) -> None:
    row.update(dict.fromkeys(GRID_COLUMNS), is_readable=False, reason=reason)


def _is_text(path: str) -> bool:
    """Return whether a path is valid UTF-8: Linux allows any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
