"""Catalogue of the CTs below a data root, a row a series, from headers alone.

Any folder layout is accepted. A folder ``subset<k>`` holds series of LUNA16's subset k. LUNA16's lung masks
(``seg-lungs*``), which have the CTs' names, and hidden files are skipped.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.ct.catalogue_cache import IDLE_SUFFIXES, is_in_stat_digest, kept_rows, stat_digest_of
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.dicom_series import DicomSeries, is_dicom_file, ordered_slices, scan_dicom_files
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.reading import FORMATS, format_of, open_ct, series_stem
from luna_pipeline.core.storage.files import folders_below, is_name

if TYPE_CHECKING:
    import pandas as pd

CATALOGUE_COLUMNS = (
    *("series_instance_uid", "format", "path", "size_irc", "spacing_mm", "origin_xyz", "direction", "subset"),
    *("patient_hash", "manufacturer", "slice_thickness_mm", "fingerprint", "stat_digest", "num_bytes", "is_readable"),
    "reason",
)
_SUBSET_FOLDER = re.compile(r"subset(\d+)", re.IGNORECASE)
_GRID_COLUMNS = ("size_irc", "spacing_mm", "origin_xyz", "direction")
# Suffixes of files that are no DICOM; they are not opened.
_OTHER_SUFFIXES = IDLE_SUFFIXES | {".raw", ".zraw"}


def catalogue_series(data_root: Path, *, patient_key: bytes, kept: "pd.DataFrame | None" = None) -> "pd.DataFrame":
    """List every series below a folder.

    Args:
        data_root: Folder with MetaImage, NRRD or NIfTI files and DICOM folders, at any depth.
        patient_key: Key of the patients' hashes; the ids themselves are not kept.
        kept: An earlier catalogue. Rows of folders whose files have unchanged names, sizes and times are adopted
            without opening these files.

    Returns:
        A row a series found, sorted by series_instance_uid, then path, with ``CATALOGUE_COLUMNS``: path relative to
        the data root; size, spacing, origin and direction as in ``VoxelGrid``; subset (Int64, null where unknown);
        patient_hash, the scanner's manufacturer and slice_thickness_mm (0018,0050), known of DICOM only; fingerprint
        of header, names, sizes and times of the files; stat_digest of the folder (null where it must be read again);
        num_bytes of the data files; is_readable,
        else the reason. Of duplicate series only the first path is readable: uids are unique among readable rows.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no CT.
    """
    import pandas as pd

    if not data_root.is_dir():
        msg = f"The data folder must be there, got {data_root} (no such folder). Make it and put CTs into it."
        raise FileNotFoundError(msg)
    known = kept_rows(kept, columns=CATALOGUE_COLUMNS)
    rows: list[dict[str, Any]] = []
    for folder, files in _files_below(data_root):
        stat_digest = stat_digest_of(folder, files, data_root=data_root, patient_key=patient_key)
        rows += known.get(stat_digest) or _rows_of(
            folder, files, data_root=data_root, patient_key=patient_key, stat_digest=stat_digest
        )
    if not rows:
        raise FileNotFoundError(
            f"The data folder must hold CTs ({', '.join(FORMATS)} or DICOM), got none (below {data_root}). "
            "Copy CTs there."
        )
    rows.sort(key=lambda row: (row["series_instance_uid"], row["path"]))
    _refuse_names_and_duplicates(rows)
    frame = pd.DataFrame(rows, columns=list(CATALOGUE_COLUMNS))
    types = {"subset": "Int64", "slice_thickness_mm": "float64", "num_bytes": "Int64", "is_readable": "bool"}
    return frame.astype(types)


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


def _files_below(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each folder that may hold CTs with its files, sorted."""
    for folder, folders, names in folders_below(root):
        folders[:] = [name for name in folders if not name.startswith((".", "seg-lungs"))]
        yield folder, [folder / name for name in names if not name.startswith(".")]


def _rows_of(
    folder: Path, files: Sequence[Path], *, data_root: Path, patient_key: bytes, stat_digest: str
) -> list[dict[str, Any]]:
    """Return the rows of one folder by the headers of its files."""
    rows = [_file_row(path, data_root) for path in files if format_of(path) is not None]
    others = (path for path in files if format_of(path) is None and path.suffix.lower() not in _OTHER_SUFFIXES)
    found = scan_dicom_files(path for path in others if is_dicom_file(path))
    rows += [_dicom_row(series, data_root, patient_key) for series in found.values()]
    # Changes of voxels in another folder do not change this folder's digest.
    is_all_seen = all(is_in_stat_digest(path, folder) for row in rows for path in row.pop("data_files"))
    return [row | {"stat_digest": stat_digest if is_all_seen else None} for row in rows]


def _file_row(path: Path, data_root: Path) -> dict[str, Any]:
    uid = series_stem(path)
    row = _new_row(uid, path, data_root) | {"format": format_of(path)}
    header, data_files = b"", {path}
    try:
        reader = open_ct(path, series_instance_uid=uid)
        data_files = set(reader.files())
        if path.suffix.lower() == ".mhd":
            # A header's text counts, not its time: rewriting it changes nothing.
            header, data_files = path.read_bytes(), data_files - {path}
        _fill_grid(row, reader.grid())
    except (ValueError, OSError) as error:
        row["reason"] = str(error)
    _fill_files(row, header, data_files)
    return row


def file_fingerprint(path: Path, data_root: Path) -> str:
    """Return the catalogue's ``fingerprint`` of a CT in one file as it is now."""
    return str(_file_row(path, data_root)["fingerprint"])


def _dicom_row(series: DicomSeries, data_root: Path, patient_key: bytes) -> dict[str, Any]:
    row = _new_row(series.series_instance_uid, series.paths[0].parent, data_root) | {"format": "dicom"}
    patient_id = next((item.patient_id for item in series.slices if item.patient_id), None)
    if patient_id is not None:
        row["patient_hash"] = hmac.new(patient_key, patient_id.encode(), hashlib.sha256).hexdigest()
    row["manufacturer"] = next((item.manufacturer for item in series.slices if item.manufacturer), None)
    row["slice_thickness_mm"] = next((mm for item in series.slices if (mm := item.thickness_mm) > 0), None)
    try:
        _, grid = ordered_slices(series)
        _fill_grid(row, grid)
    except ValueError as error:
        row["reason"] = str(error)
    _fill_files(row, b"", set(series.paths))
    return row


def _new_row(uid: str, path: Path, data_root: Path) -> dict[str, Any]:
    relative = path.relative_to(data_root)
    subsets = [int(match[1]) for part in relative.parts if (match := _SUBSET_FOLDER.fullmatch(part))]
    empty: dict[str, Any] = dict.fromkeys(CATALOGUE_COLUMNS)
    return empty | {
        "series_instance_uid": uid,
        "path": relative.as_posix(),
        "subset": subsets[-1] if subsets else None,
        "is_readable": False,
    }


def _fill_grid(row: dict[str, Any], grid: VoxelGrid) -> None:
    row.update({column: list(getattr(grid, column)) for column in _GRID_COLUMNS}, is_readable=True)


def _fill_files(row: dict[str, Any], header: bytes, data_files: set[Path]) -> None:
    digest = hashlib.sha256(header)
    num_bytes = 0
    for file in sorted(file for file in data_files if file.is_file()):
        status = file.stat()
        digest.update(f"\n{file.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
        num_bytes += status.st_size
    row.update(fingerprint=digest.hexdigest(), num_bytes=num_bytes, data_files=data_files)


def _refuse_names_and_duplicates(rows: list[dict[str, Any]]) -> None:
    """Mark series that no file can be named after, and all but the first path of a uid, in the order of the rows."""
    first_paths: dict[str, str] = {}
    for row in (row for row in rows if row["is_readable"]):
        uid, path = row["series_instance_uid"], row["path"]
        if not is_name(uid):
            rule = f"A series must be named by letters, digits, '.', '-', '_', got {uid!r} ({path})."
            row.update(is_readable=False, reason=f"{rule} Rename the file or the folder.")
        elif (first_path := first_paths.setdefault(uid, path)) != path:
            rule = f"Duplicate series: a series must lie in one place, got {path} besides {first_path} (series {uid})."
            row.update(is_readable=False, reason=f"{rule} Keep one of them.")
