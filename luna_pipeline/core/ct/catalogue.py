"""The CTs below a data root, a row a series, from headers alone.

Any folder layout will do. Below a folder ``subset<k>`` lie the series of LUNA16's subset k. LUNA16's lung masks
(``seg-lungs*``) bear the CTs' names and are passed over, as is all that is hidden.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from luna_pipeline.core.ct.dicom import DicomSeries, is_dicom_file, ordered_slices, scan_dicom_files
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.metaimage import read_metaimage_header
from luna_pipeline.core.ct.reading import FORMATS, format_of, read_grid, series_stem

CATALOGUE_COLUMNS = (
    "series_instance_uid",
    "format",
    "path",
    "size_irc",
    "spacing_mm",
    "origin_xyz",
    "direction",
    "subset",
    "patient_hash",
    "fingerprint",
    "num_bytes",
    "is_readable",
    "reason",
)
_SUBSET_FOLDER = re.compile(r"subset(\d+)", re.IGNORECASE)
_GRID_COLUMNS = ("size_irc", "spacing_mm", "origin_xyz", "direction")
# Files that are no DICOM, so that they need not be opened to see it.
_OTHER_SUFFIXES = {".raw", ".zraw", ".csv", ".xml", ".txt", ".json", ".npz", ".png", ".pdf", ".md", ".zip", ".xz"}


def catalogue_series(data_root: Path, *, patient_key: bytes) -> pd.DataFrame:
    """List every series below a folder.

    Args:
        data_root: Folder with MetaImage, NRRD or NIfTI files and DICOM folders, at any depth.
        patient_key: Key of the patients' hashes; the ids themselves are not kept.

    Returns:
        A row a series found, sorted by series_instance_uid, then path, with ``CATALOGUE_COLUMNS``: path relative to
        the data root; size, spacing, origin and direction as in ``VoxelGrid``; subset (Int64, null where unknown);
        patient_hash (DICOM only); fingerprint of header, names, sizes and times of the files; num_bytes of the data
        files; is_readable, and the reason where it is not. A series that lies there twice is readable at the first
        of its paths alone, so that a uid is unique among the readable rows.

    Raises:
        FileNotFoundError: If there is no such folder or no CT in it.
    """
    if not data_root.is_dir():
        msg = f"The data folder must be there, got {data_root} (no such folder). Make it and put CTs into it."
        raise FileNotFoundError(msg)
    rows = [row for files in _files_below(data_root) for row in _rows_of(files, data_root, patient_key)]
    if not rows:
        msg = (
            f"The data folder must hold CTs ({', '.join(FORMATS)} or DICOM), got none (below {data_root}). "
            "Copy CTs there."
        )
        raise FileNotFoundError(msg)
    rows.sort(key=lambda row: (row["series_instance_uid"], row["path"]))
    _mark_duplicates(rows)
    frame = pd.DataFrame(rows, columns=list(CATALOGUE_COLUMNS))
    return frame.astype({"subset": "Int64", "num_bytes": "Int64", "is_readable": "bool"})


def grid_of_row(row: Any) -> VoxelGrid:
    """Return the grid of a catalogue row (a mapping, a Series or a named tuple's ``_asdict()``).

    Raises:
        UnreadableCtError: If the row's series is not readable.
    """
    if not row["is_readable"]:
        msg = f"A series must be readable, got {row['reason']!r} (series {row['series_instance_uid']}). Mend its files."
        raise UnreadableCtError(msg)
    num_slices, num_rows, num_cols = (int(value) for value in row["size_irc"])
    col_mm, row_mm, index_mm = (float(value) for value in row["spacing_mm"])
    x_mm, y_mm, z_mm = (float(value) for value in row["origin_xyz"])
    return VoxelGrid(
        size_irc=(num_slices, num_rows, num_cols),
        spacing_mm=(col_mm, row_mm, index_mm),
        origin_xyz=(x_mm, y_mm, z_mm),
        direction=tuple(float(value) for value in row["direction"]),
    )


def _files_below(root: Path) -> Iterator[list[Path]]:
    """Yield each folder's files, sorted, walking through links but into no folder twice."""
    seen: set[str] = set()
    for name, folders, files in os.walk(root, followlinks=True):
        if os.path.realpath(name) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(name))
        folders[:] = sorted(folder for folder in folders if not folder.startswith((".", "seg-lungs")))
        yield [Path(name, file) for file in sorted(files) if not file.startswith(".")]


def _rows_of(files: list[Path], data_root: Path, patient_key: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows of one folder."""
    for path in files:
        if format_of(path) is not None:
            yield _file_row(path, data_root)
    others = (path for path in files if format_of(path) is None and path.suffix.lower() not in _OTHER_SUFFIXES)
    for series in scan_dicom_files(path for path in others if is_dicom_file(path)).values():
        yield _dicom_row(series, data_root, patient_key)


def _file_row(path: Path, data_root: Path) -> dict[str, Any]:
    uid = series_stem(path)
    row = _new_row(uid, path, data_root) | {"format": format_of(path)}
    header, data_files = b"", [path]
    try:
        if path.suffix.lower() == ".mhd" and path.is_file():
            header, data_files = path.read_bytes(), [read_metaimage_header(path).data_path]
        _fill_grid(row, read_grid(path, series_instance_uid=uid))
    except (ValueError, OSError) as error:
        row["reason"] = str(error)
    _fill_files(row, header, [file for file in data_files if file.is_file()])
    return row


def _dicom_row(series: DicomSeries, data_root: Path, patient_key: bytes) -> dict[str, Any]:
    row = _new_row(series.series_instance_uid, series.paths[0].parent, data_root) | {"format": "dicom"}
    patient_id = next((item.patient_id for item in series.slices if item.patient_id), None)
    if patient_id is not None:
        row["patient_hash"] = hmac.new(patient_key, patient_id.encode(), hashlib.sha256).hexdigest()
    try:
        _, grid = ordered_slices(series)
        _fill_grid(row, grid)
    except ValueError as error:
        row["reason"] = str(error)
    _fill_files(row, b"", series.paths)
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


def _fill_files(row: dict[str, Any], header: bytes, data_files: list[Path]) -> None:
    digest = hashlib.sha256(header)
    num_bytes = 0
    for file in sorted(data_files):
        status = file.stat()
        digest.update(f"\n{file.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
        num_bytes += status.st_size
    row.update(fingerprint=digest.hexdigest(), num_bytes=num_bytes)


def _mark_duplicates(rows: list[dict[str, Any]]) -> None:
    """Leave the first readable row of each uid in use; the rows are sorted by uid and path."""
    first_paths: dict[str, str] = {}
    for row in rows:
        if not row["is_readable"]:
            continue
        uid = row["series_instance_uid"]
        first_path = first_paths.setdefault(uid, row["path"])
        if first_path != row["path"]:
            row["is_readable"] = False
            row["reason"] = (
                f"Duplicate series: a series must lie in one place, got {row['path']} besides {first_path} "
                f"(series {uid}). Keep one of them."
            )
            row.update(dict.fromkeys(_GRID_COLUMNS))
