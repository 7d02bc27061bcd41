"""DICOM series: the files of a folder by series, their order, and the grid.

The grid is computed from the slices' positions. SliceThickness is not the distance of neighbouring slices: with
overlapping or spaced slices it is wrong.

Source:
    DICOM PS3.3, C.7.6.2 (Image Plane Module), C.7.6.16.2 (functional groups of multi-frame images).
"""

import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.content_hash import file_states
from luna_pipeline.core.ct.errors import UnreadableCtError, naming_series
from luna_pipeline.core.ct.formats.dicom_headers import DicomSlice, read_slices
from luna_pipeline.core.ct.formats.dicom_voxels import read_slice_voxels
from luna_pipeline.core.ct.formats.reader import CtReader
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.hounsfield import check_voxel_kind

# Largest difference of a gap from the mean gap: more is a missing or displaced slice.
GAP_TOLERANCE_MM = 0.01
GAP_TOLERANCE_RATIO = 0.01
# Largest sideways drift over the whole scan, as a part of a pixel: more is a tilted gantry.
_DRIFT_TOLERANCE_PIXELS = 0.5
# Tags (little endian) that are searched in the head of a damaged file.
_MODALITY = b"\x08\x00\x60\x00"
_SERIES_INSTANCE_UID = b"\x20\x00\x0e\x00"
_HEAD_BYTES = 65536


@dataclass
class DicomSeries:
    """Files of one series in one folder.

    Attributes:
        series_instance_uid: DICOM (0020,000E).
        slices: Slices of the CT, a file or a frame each.
        left_out: Localizers and pictures with the series' uid that are no part of the CT.
        broken: Files with its uid that cannot be read.
    """

    series_instance_uid: str
    slices: list[DicomSlice] = field(default_factory=list)
    left_out: list[DicomSlice] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """The files of the CT, sorted by name; the files left out where there are no others."""
        paths = {*(item.path for item in self.slices), *self.broken}
        return sorted(paths or {item.path for item in self.left_out})


class DicomReader(CtReader):
    """Reads one series of a folder with DICOM files."""

    @cached_property
    def series(self) -> DicomSeries:
        """Headers of the series; refused where it is not in the folder."""
        uid = self.series_instance_uid
        # Hidden files are skipped, as in the catalogue: some systems create one next to each file.
        paths = (path for path in self.path.iterdir() if path.is_file() and not path.name.startswith("."))
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

    def grid(self) -> VoxelGrid:
        """Return the grid by the slices' positions."""
        return self._ordered[1]

    def voxels(self) -> NDArray[np.int16]:
        """Read the HU of the ordered slices."""
        return read_slice_voxels(self._ordered[0], series_instance_uid=self.series_instance_uid)

    def file_states(self) -> list[tuple[str, int, int, int]]:
        """Return name, inode, size and time of all files of the folder: one that is added may be a slice."""
        return file_states(path for path in self.path.iterdir() if path.is_file())


def is_dicom_file(path: Path) -> bool:
    """Return whether a file is DICOM by its suffix or its preamble; a DICOMDIR is not."""
    if path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    # A dangling link or a file without permission.
    except OSError:
        return False


def scan_dicom_files(paths: Iterable[Path]) -> dict[str, DicomSeries]:
    """Read the headers of one folder's DICOM files and group them by series.

    Args:
        paths: DICOM files of one folder.

    Returns:
        Series by SeriesInstanceUID; a file whose series is unknown is one under its own name.
    """
    found: dict[str, DicomSeries] = {}
    broken: list[Path] = []
    for path in sorted(paths):
        items = read_slices(path)
        if not items:
            broken.append(path)
        for item in items:
            series = found.setdefault(item.series_instance_uid, DicomSeries(item.series_instance_uid))
            (series.left_out if item.why_left_out else series.slices).append(item)
    uids = tuple(found)
    for path in broken:
        uid = owner_of(path, uids)
        found.setdefault(uid, DicomSeries(uid)).broken.append(path)
    return found


def owner_of(path: Path, series_instance_uids: Collection[str]) -> str:
    """Return the series of a damaged file, given the readable series of its folder.

    A damaged CT slice may name its series. Without a name it belongs to the only series of the folder; otherwise the
    file's stem is returned.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    # In a CT slice both elements come before any sequence that could repeat them.
    modality, uid = _value_of(head, _MODALITY), _value_of(head, _SERIES_INSTANCE_UID)
    if modality not in {"CT", ""}:
        return path.stem
    if uid:
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
    """Sort a series along its normal and compute its grid.

    Returns:
        The slices, and the grid: origin of the first slice, mean gap along the normal.

    Raises:
        UnreadableCtError: If a file is broken, it is no CT, or slices differ in size or orientation, have the same
            position, are unevenly spaced, or are shifted sideways (tilted gantry). Names the files and frames.
    """
    uid = series.series_instance_uid
    _check_whole(series)
    _check_alike(series.slices, uid=uid)
    axes = _axes(series.slices[0])
    positions_xyz = np.array([item.position_xyz for item in series.slices])
    heights_mm = positions_xyz @ axes[:, 2]
    order = np.argsort(heights_mm, kind="stable")
    slices = [series.slices[place] for place in order]
    gap_mm = _even_gap(slices, heights_mm[order], uid=uid)
    _check_drift(positions_xyz[order], axes[:, 2], spacing_mm=min(slices[0].spacing_rc_mm), uid=uid)
    (row_mm, col_mm), (x_mm, y_mm, z_mm) = slices[0].spacing_rc_mm, slices[0].position_xyz
    size_irc, direction = (len(slices), *slices[0].size_rc), tuple(float(value) for value in axes.ravel())
    with naming_series(uid):
        return slices, VoxelGrid(size_irc, (col_mm, row_mm, gap_mm), (x_mm, y_mm, z_mm), direction)


def _check_whole(series: DicomSeries) -> None:
    uid = series.series_instance_uid
    if series.broken:
        names = ", ".join(path.name for path in series.broken[:3])
        raise UnreadableCtError(
            f"Every DICOM file must hold a readable image, got {len(series.broken)} that do not: {names} "
            f"(series {uid}). Copy them again; leave out objects without an image."
        )
    if not series.slices:
        names = ", ".join(f"{item.name} ({item.why_left_out})" for item in series.left_out[:3])
        raise UnreadableCtError(
            f"A series must hold slices of a CT, got {len(series.left_out)} images that are none: {names} "
            f"(series {uid}). Leave it out of the data folder."
        )


def _check_alike(slices: Sequence[DicomSlice], *, uid: str) -> None:
    first = slices[0]
    if first.modality not in {"CT", ""}:
        msg = f"Modality must be CT, got {first.modality} (series {uid}). Leave it out of the data folder."
        raise UnreadableCtError(msg)
    for item in slices:
        num_channels, num_bits = item.storage.num_channels, item.storage.num_bits
        check_voxel_kind(f"{num_bits} bits", num_channels, num_bits // 8, series_instance_uid=uid)
        if item.missing:
            raise UnreadableCtError(
                f"{item.missing} must be in the header, got none ({item.name}, series {uid}). Export the series again."
            )
    places = np.array([(*item.spacing_rc_mm, *item.orientation) for item in slices])
    is_alike = np.isclose(places, places[0], atol=1e-4).all(axis=1)
    for item, is_parallel in zip(slices, is_alike, strict=True):
        if not is_parallel or item.size_rc != first.size_rc:
            raise UnreadableCtError(
                f"Slices of a series must share size, pixel spacing and orientation, got {item.name} "
                f"unlike {first.name} (series {uid}). Take foreign slices out of the folder."
            )


def _even_gap(slices: Sequence[DicomSlice], heights_mm: NDArray[np.float64], *, uid: str) -> float:
    """Return the mean gap of sorted slices in mm; refuses uneven ones."""
    if len(slices) < 2:
        msg = f"A CT must have two slices or more, got 1 ({slices[0].name}, series {uid}). Copy the whole series."
        raise UnreadableCtError(msg)
    gaps_mm = np.diff(heights_mm)
    mean_mm = float(gaps_mm.mean())
    worst = int(np.argmax(np.abs(gaps_mm - np.median(gaps_mm))))
    between = f"{slices[worst].name} and {slices[worst + 1].name}, series {uid}"
    # 1e-6 mm: positions are decimal text.
    tolerance_mm = min(GAP_TOLERANCE_MM, GAP_TOLERANCE_RATIO * mean_mm) + 1e-6
    if gaps_mm.min() < 1e-3:
        twin = int(np.argmin(gaps_mm))
        raise UnreadableCtError(
            f"Slices must lie at different places, got {slices[twin].name} and {slices[twin + 1].name} "
            f"at one (series {uid}). Keep one copy of each slice."
        )
    if np.abs(gaps_mm - mean_mm).max() > tolerance_mm:
        raise UnreadableCtError(
            f"Slices must be evenly spaced, got a gap of {gaps_mm[worst]:.4g} mm among gaps of "
            f"{np.median(gaps_mm):.4g} mm (between {between}). Copy the missing slices."
        )
    return mean_mm


def _check_drift(
    positions_xyz: NDArray[np.float64], normal: NDArray[np.float64], *, spacing_mm: float, uid: str
) -> None:
    way = positions_xyz[-1] - positions_xyz[0]
    drift_mm = float(np.linalg.norm(way - np.dot(way, normal) * normal))
    if drift_mm > _DRIFT_TOLERANCE_PIXELS * spacing_mm:
        raise UnreadableCtError(
            f"Slices must lie straight above each other, got a drift of {drift_mm:.4g} mm over the scan "
            f"(series {uid}). A tilted gantry is not supported: resample the CT first."
        )


def _axes(item: DicomSlice) -> NDArray[np.float64]:
    """Return ITK's direction matrix: its columns point along a row, down a column, and to the next slice."""
    along_row, down_column = np.array(item.orientation, dtype=np.float64).reshape(2, 3)
    return np.stack([along_row, down_column, np.cross(along_row, down_column)], axis=1)
