"""DICOM series: the files of a folder by series, and their reader."""

import filecmp
import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.content_hash import file_states
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.formats.dicom_files import is_dicom_file
from luna_pipeline.core.ct.formats.dicom_grid import ordered_slices_of
from luna_pipeline.core.ct.formats.dicom_headers import read_slices
from luna_pipeline.core.ct.formats.dicom_slices import BrokenDicomError, DicomSlice, LeftOut
from luna_pipeline.core.ct.formats.dicom_values import is_uid, shown_modality
from luna_pipeline.core.ct.formats.dicom_voxels import read_slice_voxels
from luna_pipeline.core.ct.formats.reader import CtReader
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.storage.regular_files import is_regular, open_regular, shown_name

# Tags (little endian) that are searched in the head of a damaged file.
_MODALITY = b"\x08\x00\x60\x00"
_SERIES_INSTANCE_UID = b"\x20\x00\x0e\x00"
_HEAD_BYTES = 65536


__all__ = ["DicomReader", "DicomSeries", "is_dicom_file", "ordered_slices", "owner_of", "scan_dicom_files"]


class Broken(NamedTuple):
    """A file that cannot be read, and why."""

    path: Path
    why: str


@dataclass
class DicomSeries:
    """Files of one series in one folder.

    Attributes:
        series_instance_uid: DICOM (0020,000E).
        slices: Slices of the CT, a file or a frame each.
        left_out: Localizers, reports, doses and pictures with the series' uid that are no part of the CT.
        broken: Files with its uid that cannot be read.
        copies: Files that equal another file of the series to the byte; they are ignored.
    """

    series_instance_uid: str
    slices: list[DicomSlice] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """The files of the CT, sorted by name; the files left out where there are no others."""
        paths = {*(item.path for item in self.slices), *(item.path for item in self.broken)}
        return sorted(paths or {item.path for item in self.left_out})

    @property
    def notes(self) -> list[str]:
        """What was ignored, or is worth knowing, of a series that can be read, a sentence each."""
        notes = []
        if self.copies:
            names = _shown([shown_name(path) for path in self.copies])
            notes.append(f"{len(self.copies)} files are equal copies of slices and ignored: {names}.")
        if self.left_out and self.slices:
            names = _shown([f"{shown_name(item.path)} ({item.why})" for item in self.left_out])
            notes.append(f"{len(self.left_out)} objects are no slices of the CT and ignored: {names}.")
        num_lossy = sum(item.is_lossy for item in self.slices)
        if num_lossy:
            notes.append(f"{num_lossy} of {len(self.slices)} slices were compressed with loss: HU may be inexact.")
        return notes


def _shown(names: Sequence[str], *, limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


class DicomReader(CtReader):
    """Reads one series of a folder with DICOM files."""

    @cached_property
    def series(self) -> DicomSeries:
        """Headers of the series; refused where it is not in the folder."""
        uid = self.series_instance_uid
        # Hidden files are skipped, as in the catalogue: some systems create one next to each file.
        paths = (path for path in self.path.iterdir() if is_regular(path) and not path.name.startswith("."))
        found = scan_dicom_files(path for path in paths if is_dicom_file(path))
        if uid not in found:
            msg = f"A DICOM folder must hold the series that is asked for, got {sorted(found) or 'none'} ({self.path}"
            raise UnreadableCtError(f"{msg}, series {uid}). Check the data folder.")
        return found[uid]

    @cached_property
    def _ordered(self) -> tuple[list[DicomSlice], VoxelGrid]:
        return ordered_slices(self.series)

    def files(self) -> tuple[Path, ...]:
        """Return the files of the series' slices, sorted by name."""
        return tuple(self.series.paths)

    def files_in_slice_order(self) -> tuple[Path, ...]:
        """Return the files of the CT in the order of its slices, a multi-frame file once."""
        return tuple(dict.fromkeys(item.path for item in self._ordered[0]))

    def grid(self) -> VoxelGrid:
        """Return the grid by the slices' positions."""
        return self._ordered[1]

    def voxels(self) -> NDArray[np.int16]:
        """Read the HU of the ordered slices."""
        return read_slice_voxels(self._ordered[0], series_instance_uid=self.series_instance_uid)

    def file_states(self) -> list[tuple[str, int, int, int]]:
        """Return name, inode, size and time of all files of the folder: one that is added may be a slice."""
        return file_states(path for path in self.path.iterdir() if is_regular(path))


def scan_dicom_files(paths: Iterable[Path]) -> dict[str, DicomSeries]:
    """Read the headers of one folder's DICOM files and group them by series.

    Args:
        paths: DICOM files of one folder.

    Returns:
        Series by SeriesInstanceUID; a file whose series is unknown is one under its own name.
    """
    found: dict[str, DicomSeries] = {}
    broken: list[Broken] = []
    for path in sorted(paths):
        try:
            items = read_slices(path)
        except BrokenDicomError as error:
            broken.append(Broken(path, str(error)))
            continue
        for item in items:
            series = found.setdefault(item.series_instance_uid, DicomSeries(item.series_instance_uid))
            if isinstance(item, LeftOut):
                series.left_out.append(item)
            else:
                series.slices.append(item)
    uids = tuple(uid for uid, series in found.items() if series.slices)
    for torn in broken:
        uid = owner_of(torn.path, uids)
        found.setdefault(uid, DicomSeries(uid)).broken.append(torn)
    for series in found.values():
        _leave_out_other_modalities(series)
        _drop_copies(series)
    return found


def _leave_out_other_modalities(series: DicomSeries) -> None:
    """Leave out images of another modality beside slices of a CT, such as a dose with the CT's uid."""
    if any(item.modality == "CT" for item in series.slices):
        others = {item.path: item for item in series.slices if item.modality not in {"CT", ""}}
        uid = series.series_instance_uid
        series.left_out += [
            LeftOut(path, uid, f"modality {shown_modality(item.modality)}") for path, item in others.items()
        ]
        series.slices = [item for item in series.slices if item.path not in others]


def _drop_copies(series: DicomSeries) -> None:
    """Drop files with the SOPInstanceUID and the bytes of another; the one with the shortest name stays."""
    by_uid: dict[str, list[Path]] = {}
    for path, uid in {item.path: item.sop_instance_uid for item in series.slices}.items():
        by_uid.setdefault(uid, []).append(path)
    for uid, paths in by_uid.items():
        kept: list[Path] = []
        for path in sorted(paths, key=lambda path: (len(path.name), path.name)) if uid and len(paths) > 1 else ():
            is_copy = any(filecmp.cmp(path, other, shallow=False) for other in kept)
            (series.copies if is_copy else kept).append(path)
    copies = set(series.copies)
    series.slices = [item for item in series.slices if item.path not in copies]


def owner_of(path: Path, series_instance_uids: Collection[str]) -> str:
    """Return the series of a damaged file, given the readable series of its folder.

    A damaged CT slice may name its series. Without a name it belongs to the only series of the folder; otherwise the
    file's stem is returned.
    """
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return path.stem
    # In a CT slice both elements come before any sequence that could repeat them.
    modality, uid = _value_of(head, _MODALITY), _value_of(head, _SERIES_INSTANCE_UID)
    if modality not in {"CT", ""}:
        return path.stem
    if uid and is_uid(uid):
        return uid
    return next(iter(series_instance_uids)) if len(series_instance_uids) == 1 else path.stem


def _value_of(head: bytes, tag: bytes) -> str:
    """Return the text of a tag's first occurrence, explicit or implicit VR; empty where there is none."""
    start = head.find(tag)
    element = head[start + 4 : start + 8]
    if start < 0 or len(element) < 4:
        return ""
    is_explicit = element[:2].isalpha()
    length = struct.unpack("<H", element[2:])[0] if is_explicit else struct.unpack("<I", element)[0]
    return head[start + 8 : start + 8 + min(length, 64)].decode("latin-1").strip(" \0")


def ordered_slices(series: DicomSeries) -> tuple[list[DicomSlice], VoxelGrid]:
    """Sort a series along its normal and compute its grid; ``ordered_slices_of`` says how.

    Raises:
        UnreadableCtError: If a file is broken, there is no slice of a CT, or slices do not make an even grid.
    """
    uid = series.series_instance_uid
    if series.broken:
        names = ", ".join(item.path.name for item in series.broken[:3])
        raise UnreadableCtError(
            f"Every DICOM file must hold a readable image, got {len(series.broken)} that do not: {names} "
            f"(series {uid}): {series.broken[0].why}. Copy them again; leave out objects without an image."
        )
    if not series.slices:
        names = ", ".join(f"{item.name} ({item.why})" for item in series.left_out[:3])
        raise UnreadableCtError(
            f"A series must hold slices of a CT, got {len(series.left_out)} images that are none: {names} "
            f"(series {uid}). Leave it out of the data folder."
        )
    return ordered_slices_of(series.slices, series_instance_uid=uid)
