"""Rows of the catalogue for one folder, by the headers of its files.

Everything that is found is a row: what cannot be read has its reason, and costs the other files nothing.
"""

import hashlib
import hmac
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from luna_pipeline.core.ct.catalogue_cache import IDLE_SUFFIXES
from luna_pipeline.core.ct.errors import UnreadableCtError, failure_of
from luna_pipeline.core.ct.formats.dicom_series import DicomSeries, is_dicom_file, ordered_slices, scan_dicom_files
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.reading import format_of, open_ct, series_stem
from luna_pipeline.core.storage.regular_files import is_regular, kind_of, shown_name

CATALOGUE_COLUMNS = (
    *("series_instance_uid", "format", "path", "size_irc", "spacing_mm", "origin_xyz", "direction", "subset"),
    *("patient_hash", "manufacturer", "slice_thickness_mm", "fingerprint", "stat_digest", "num_bytes", "is_readable"),
    *("reason", "notes"),
)
Row = dict[str, Any]
GRID_COLUMNS = ("size_irc", "spacing_mm", "origin_xyz", "direction")
# Three digits: more is no subset of anything, and would not fit the table.
_SUBSET_FOLDER = re.compile(r"subset(\d{1,3})", re.IGNORECASE)
# Suffixes of files that are no DICOM; they are not opened.
_OTHER_SUFFIXES = IDLE_SUFFIXES | {".raw", ".zraw"}
_SERIES_INSTANCE_UID = re.compile(r"\d+(\.\d+){3,}")


# Analyze and NIfTI pairs.
_PAIR_REASON = "A NIfTI CT must be one file, got a .hdr and an .img. Write it as .nii or .nii.gz."
_PACKED_SUFFIXES = (".mhd.gz", ".mha.gz", ".nrrd.gz", ".dcm.gz")
_PACKED_REASON = "A CT must not be packed as a file, except .nii.gz, got a .gz file. Unpack it."


def rows_of_folder(folder: Path, files: Sequence[Path], *, data_root: Path, patient_key: bytes) -> list[Row]:
    """Return the rows of the CTs in one folder.

    Each has its ``data_files`` (a set of paths) and ``is_ct``: whether it is a CT by its headers, or damaged.
    """
    regular = [path for path in files if is_regular(path)]
    rows = [odd_row(path, data_root, _odd_reason(path)) for path in sorted({*files} - {*regular}) if _is_input(path)]
    rows += [odd_row(path, data_root, _PAIR_REASON) for path in regular if _is_half_of_pair(path)]
    packed = (path for path in regular if path.name.lower().endswith(_PACKED_SUFFIXES))
    rows += [odd_row(path, data_root, _PACKED_REASON) for path in packed]
    images = {path for path in regular if format_of(path) is not None}
    rows += [_row_of_file(path, data_root) for path in sorted(images)]
    try:
        found = scan_dicom_files(path for path in regular if path not in images and _is_dicom(path))
    except Exception as error:
        return [*rows, odd_row(folder, data_root, failure_of(error, shown_name(folder)))]
    rows += [_dicom_row(series, data_root, patient_key) for series in found.values()]
    _refuse_shared_voxel_files(rows)
    return rows


def odd_row(path: Path, data_root: Path, reason: str) -> Row:
    """Return the row of a file or folder that cannot be a CT."""
    uid = shown_name(path) if format_of(path) is None else series_stem(path)
    return _new_row(uid, path, data_root) | {"format": "unknown", "is_ct": False, "reason": reason, "data_files": set()}


def file_fingerprint(path: Path, data_root: Path) -> str:
    """Return the catalogue's ``fingerprint`` of a CT in one file as it is now."""
    return str(_row_of_file(path, data_root)["fingerprint"])


def subset_of_path(relative: str) -> int | None:
    """Return the number of the last ``subset<k>`` folder in a path, None without one."""
    subsets = [int(match[1]) for part in relative.split("/") if (match := _SUBSET_FOLDER.fullmatch(part))]
    return subsets[-1] if subsets else None


def shown_path(path: Path, data_root: Path) -> str:
    """Return a path below the data root for messages and tables, in one printable line."""
    return "/".join(shown_name(Path(part)) for part in path.relative_to(data_root).parts) or "."


def _is_input(path: Path) -> bool:
    """Return whether a path that is no regular file would be read if it were one."""
    return path.suffix.lower() not in _OTHER_SUFFIXES


def _is_half_of_pair(path: Path) -> bool:
    return path.suffix.lower() == ".hdr" and any(is_regular(path.with_suffix(suffix)) for suffix in (".img", ".IMG"))


def _odd_reason(path: Path) -> str:
    rule = f"A CT's files must be regular files or links to them, got {kind_of(path)} ({shown_name(path)})."
    return f"{rule} Take it out of the data folder, or repair the link."


def _is_dicom(path: Path) -> bool:
    return path.suffix.lower() not in _OTHER_SUFFIXES and is_dicom_file(path)


def _row_of_file(path: Path, data_root: Path) -> Row:
    uid = series_stem(path)
    row = _new_row(uid, path, data_root) | {"format": format_of(path), "is_ct": True}
    header, data_files = b"", {path}

    def read_header() -> None:
        nonlocal header, data_files
        reader = open_ct(path, series_instance_uid=uid)
        data_files = set(reader.files())
        if path.suffix.lower() == ".mhd":
            # A header's text counts, not its time: rewriting it changes nothing.
            header, data_files = path.read_bytes(), data_files - {path}
        grid = reader.grid()
        _check_own_voxels(path, uid, data_files)
        _fill_grid(row, grid)

    _fill(row, read_header)
    _fill_files(row, header, data_files)
    return row


def _dicom_row(series: DicomSeries, data_root: Path, patient_key: bytes) -> Row:
    row = _new_row(series.series_instance_uid, series.paths[0].parent, data_root) | {"format": "dicom"}
    row["is_ct"] = bool(series.broken) or any(item.modality in {"CT", ""} for item in series.slices)

    def read_headers() -> None:
        patient_id = next((item.patient_id for item in series.slices if item.patient_id), None)
        if patient_id is not None:
            text = patient_id.encode(errors="surrogateescape")
            row["patient_hash"] = hmac.new(patient_key, text, hashlib.sha256).hexdigest()
        row["manufacturer"] = next((item.manufacturer for item in series.slices if item.manufacturer), None)
        row["slice_thickness_mm"] = next((mm for item in series.slices if (mm := item.thickness_mm) > 0), None)
        _, grid = ordered_slices(series)
        _fill_grid(row, grid)
        row["notes"] = " ".join(series.notes) or None

    _fill(row, read_headers)
    _fill_files(row, b"", set(series.paths))
    return row


def _fill(row: Row, read: Callable[[], None]) -> None:
    """Call a function that fills the row; any failure is the row's reason."""
    try:
        read()
    except Exception as error:
        row["reason"] = failure_of(error, shown_name(Path(row["series_instance_uid"])))


def _new_row(uid: str, path: Path, data_root: Path) -> Row:
    relative = path.relative_to(data_root).as_posix()
    empty: Row = dict.fromkeys(CATALOGUE_COLUMNS)
    return empty | {
        "series_instance_uid": uid,
        "path": relative,
        "subset": subset_of_path(relative),
        "is_readable": False,
    }


def _fill_grid(row: Row, grid: VoxelGrid) -> None:
    row.update({column: list(getattr(grid, column)) for column in GRID_COLUMNS}, is_readable=True)


def _fill_files(row: Row, header: bytes, data_files: set[Path]) -> None:
    digest = hashlib.sha256(header)
    num_bytes = 0
    for file in sorted(file for file in data_files if is_regular(file)):
        status = file.stat()
        state = f"\n{file.name}\0{status.st_size}\0{status.st_mtime_ns}"
        digest.update(state.encode(errors="surrogateescape"))
        num_bytes += status.st_size
    row.update(fingerprint=digest.hexdigest(), num_bytes=num_bytes, data_files=data_files)


def _check_own_voxels(path: Path, uid: str, data_files: set[Path]) -> None:
    """Refuse a header that names the voxels of another series: copied from a template, it is no header of this CT."""
    for file in data_files - {path}:
        has_own = any(is_regular(path.with_name(uid + suffix)) for suffix in (".raw", ".zraw"))
        is_foreign = all(_SERIES_INSTANCE_UID.fullmatch(name) for name in (uid, file.stem))
        if file.stem != uid and (has_own or is_foreign):
            rule = f"A header must name its own voxel file, got {shown_name(file)} ({shown_name(path)}, series {uid})."
            raise UnreadableCtError(f"{rule} Correct the name in the header, or rename header and voxels alike.")


def _refuse_shared_voxel_files(rows: list[Row]) -> None:
    """Mark all CTs of a folder that share a voxel file: at most one of the headers is right."""
    users: dict[Path, list[Row]] = defaultdict(list)
    for row in rows:
        for file in row["data_files"] if row["format"] != "dicom" else ():
            users[file].append(row)
    for file, sharing in users.items():
        if len(sharing) > 1:
            names = ", ".join(shown_name(Path(row["path"])) for row in sharing[:3])
            rule = f"A voxel file must belong to one header, got {len(sharing)}: {names} ({shown_name(file)})."
            refused = dict.fromkeys(GRID_COLUMNS) | {"is_readable": False, "reason": f"{rule} Correct the headers."}
            for row in sharing:
                row.update(refused)
