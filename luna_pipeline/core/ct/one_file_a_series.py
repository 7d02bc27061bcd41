"""Which of several files with one series uid is the CT: decided by their content, never by the order of their names."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from luna_pipeline.core.ct.content_hash import content_fingerprint
from luna_pipeline.core.ct.errors import failure_of
from luna_pipeline.core.ct.plausible_hu import check_plausible_hu
from luna_pipeline.core.ct.reading import Ct, CtReader, open_ct

Row = dict[str, Any]
_FORMAT_ORDER = ("metaimage", "nrrd", "nifti", "dicom", "luna25_block")
# Headers round: float32 in NIfTI, decimal text in DICOM.
_GRID_TOLERANCE_MM = 1e-3


def leave_one_file_a_series(rows: list[Row], data_root: Path) -> None:
    """Mark rows, in place, so that each uid has at most one readable row.

    Of files with one uid, masks (numbers that are not HU) are left out. Of copies of one CT a single one stays: one in
    a subset's folder, so that the subset is not lost, then by format, then by path. Where the files differ, lie in two
    subsets, or the slices of a DICOM series lie in several folders, all are refused.

    Args:
        rows: Rows of the catalogue.
        data_root: Folder that their paths are relative to.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["series_instance_uid"]].append(row)
    for uid, group in groups.items():
        _refuse_split(uid, [row for row in group if row["format"] == "dicom"])
        readable = [row for row in group if row["is_readable"]]
        if len(readable) > 1:
            _settle(uid, readable, data_root)


def _refuse_split(uid: str, parts: list[Row]) -> None:
    """Refuse a DICOM series in several folders: each part may look like a whole CT."""
    if len(parts) > 1 and any(row["is_readable"] for row in parts):
        folders = ", ".join(row["path"] for row in parts[:3])
        msg = f"The slices of a series must lie in one folder, got {len(parts)}: {folders} (series {uid})."
        _refuse(parts, f"{msg} Move them into one folder, or keep one copy.")


def _settle(uid: str, rows: list[Row], data_root: Path) -> None:
    rows = sorted(rows, key=lambda row: (row["subset"] is None, _FORMAT_ORDER.index(row["format"]), row["path"]))
    scans = [(row, reader) for row in rows if (reader := _reader_of_scan(row, data_root)) is not None]
    if not scans:
        return
    (kept, reader), others = scans[0], scans[1:]
    if not all(_is_copy(reader, other) for _, other in others):
        names = ", ".join(row["path"] for row, _ in scans[:3])
        rule = f"Different CTs must have different series uids, got {len(scans)} files: {names} (series {uid})."
        advice = "Keep the one that is right; a file's name is its series uid: rename the others."
        _refuse([row for row, _ in scans], f"{rule} {advice}")
        return
    subsets = {int(row["subset"]) for row, _ in scans if row["subset"] is not None}
    if len(subsets) > 1:
        rule = f"A series must lie in one subset, got {sorted(subsets)} (series {uid})."
        _refuse([row for row, _ in scans], f"{rule} Keep one copy.")
        return
    for row, _ in others:
        rule = f"Duplicate series: a series must lie in one place, got {row['path']} besides {kept['path']}"
        _refuse([row], f"{rule} with equal voxels (series {uid}). Keep one of them.")


def _reader_of_scan(row: Row, data_root: Path) -> CtReader | None:
    """Return the reader of a row whose voxels are HU; otherwise mark the row."""
    uid = row["series_instance_uid"]
    try:
        reader = open_ct(data_root / row["path"], series_instance_uid=uid)
        check_plausible_hu(reader.read().hounsfield, where=f"{row['path']}, series {uid}")
    except Exception as error:
        _refuse([row], failure_of(error, uid))
        return None
    return reader


def _is_copy(one: CtReader, other: CtReader) -> bool:
    """Return whether two CTs have equal files, or equal voxels at the same place."""
    if content_fingerprint(one.files()) == content_fingerprint(other.files()):
        return True
    return _is_same_ct(one.read(), other.read())


def _is_same_ct(one: Ct, other: Ct) -> bool:
    if one.hounsfield.shape != other.hounsfield.shape:
        return False
    corners = np.array([[0, 0, 0], np.subtract(one.hounsfield.shape, 1)])
    distance_mm = np.abs(one.grid.voxel_to_world(corners) - other.grid.voxel_to_world(corners)).max()
    return bool(distance_mm <= _GRID_TOLERANCE_MM) and np.array_equal(one.hounsfield, other.hounsfield)


def _refuse(rows: list[Row], reason: str) -> None:
    for row in rows:
        row.update(is_readable=False, reason=reason)
