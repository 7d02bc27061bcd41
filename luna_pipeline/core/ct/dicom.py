"""DICOM series: which files of a folder belong together, in which order, on which grid.

The grid comes from the slices' positions. SliceThickness says how thick a slice is, not how far the next one
lies; with overlapping or spaced slices it is wrong.

Source:
    DICOM PS3.3, C.7.6.2 (Image Plane Module).
"""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from luna_pipeline.core.ct.damaged_dicom import owner_of
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.quiet import quiet_itk

# A gap may differ from the mean gap by this: more is a missing slice or one out of place.
GAP_TOLERANCE_MM = 0.01
GAP_TOLERANCE_RATIO = 0.01
# Slices may drift sideways over the whole scan by this part of a pixel; more is a tilted gantry.
_DRIFT_TOLERANCE_PIXELS = 0.5


@dataclass(frozen=True)
class DicomSlice:
    """The header of one file: its place (LPS mm), its axes (ITK's nine numbers), and what it says it is."""

    path: Path
    series_instance_uid: str
    patient_id: str
    modality: str
    size_xyz: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    position_xyz: tuple[float, ...]
    direction: tuple[float, ...]
    has_spacing: bool


@dataclass
class DicomSeries:
    """Files of one series in one folder; ``broken`` ones carry its uid but cannot be read."""

    series_instance_uid: str
    slices: list[DicomSlice] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """All its files, sorted by name."""
        return sorted([*(item.path for item in self.slices), *self.broken])


def is_dicom_file(path: Path) -> bool:
    """Whether a file says that it is DICOM, by its suffix or by the four letters after its preamble; no DICOMDIR."""
    if path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    # A dangling link or a file of another user says nothing.
    except OSError:
        return False


def scan_dicom_files(paths: Iterable[Path]) -> dict[str, DicomSeries]:
    """Read the headers of one folder's DICOM files and tell its series apart.

    Args:
        paths: DICOM files of one folder.

    Returns:
        Series by SeriesInstanceUID; a file whose series cannot be told is one under its own name.
    """
    found: dict[str, DicomSeries] = {}
    broken: list[Path] = []
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    with quiet_itk():
        for path in sorted(paths):
            item = _read_slice(reader, path)
            if item is None:
                broken.append(path)
            else:
                uid = item.series_instance_uid
                found.setdefault(uid, DicomSeries(uid)).slices.append(item)
    uids = tuple(found)
    for path in broken:
        uid = owner_of(path, uids)
        found.setdefault(uid, DicomSeries(uid)).broken.append(path)
    return found


def ordered_slices(series: DicomSeries) -> tuple[list[DicomSlice], VoxelGrid]:
    """Sort a series along its normal and give its grid.

    Returns:
        The slices, and the grid by their positions: the first one's place, the mean gap along the normal.

    Raises:
        UnreadableCtError: If a file is broken, it is no CT, slices differ in size or orientation, lie at one
            place, are unevenly spaced, or shifted sideways (tilted gantry). Names the files.
    """
    _check_alike(series)
    first = series.slices[0]
    axes = np.asarray(first.direction, dtype=np.float64).reshape(3, 3)
    normal = np.cross(axes[:, 0], axes[:, 1])
    heights_mm = np.array([np.dot(item.position_xyz, normal) for item in series.slices])
    order = np.argsort(heights_mm, kind="stable")
    slices = [series.slices[place] for place in order]
    gap_mm = _even_gap(slices, heights_mm[order], uid=series.series_instance_uid)
    _check_drift(slices, normal, uid=series.series_instance_uid)
    return slices, _grid(slices[0], normal, gap_mm, len(slices))


def _read_slice(reader: sitk.ImageFileReader, path: Path) -> DicomSlice | None:
    """Read one header; None where ITK cannot."""
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None

    def tag(key: str) -> str:
        return str(reader.GetMetaData(key)).strip(" \0") if reader.HasMetaDataKey(key) else ""

    return DicomSlice(
        path=path,
        series_instance_uid=tag("0020|000e") or path.parent.name,
        patient_id=tag("0010|0020"),
        modality=tag("0008|0060"),
        size_xyz=tuple(reader.GetSize()),
        spacing_mm=tuple(reader.GetSpacing()),
        position_xyz=tuple(reader.GetOrigin()),
        direction=tuple(reader.GetDirection()),
        # Without the tag ITK takes 1 mm.
        has_spacing=bool(tag("0028|0030")),
    )


def _check_alike(series: DicomSeries) -> None:
    uid = series.series_instance_uid
    if series.broken:
        names = ", ".join(path.name for path in series.broken[:3])
        msg = (
            f"Every DICOM file must hold a readable image, got {len(series.broken)} that do not: {names} "
            f"(series {uid}). Copy them again; leave out objects without an image."
        )
        raise UnreadableCtError(msg)
    first = series.slices[0]
    if first.modality not in {"CT", ""}:
        msg = f"Modality must be CT, got {first.modality} (series {uid}). Leave it out of the data folder."
        raise UnreadableCtError(msg)
    if first.size_xyz[2:] not in {(), (1,)}:
        # Where frames are uneven ITK takes 1 mm for every spacing and says nothing.
        msg = (
            f"A DICOM file must hold one slice, got {first.size_xyz[2]} frames ({first.path.name}, series {uid}). "
            "Convert the series to one file a slice."
        )
        raise UnreadableCtError(msg)
    if not first.has_spacing:
        msg = (
            f"PixelSpacing must be in the header, got none ({first.path.name}, series {uid}). Export the series again."
        )
        raise UnreadableCtError(msg)
    for item in series.slices:
        is_alike = item.size_xyz == first.size_xyz and np.allclose(
            (*item.spacing_mm, *item.direction), (*first.spacing_mm, *first.direction), atol=1e-4
        )
        if not is_alike:
            msg = (
                f"Slices of a series must share size, pixel spacing and orientation, got {item.path.name} "
                f"unlike {first.path.name} (series {uid}). Take localizers and foreign slices out of the folder."
            )
            raise UnreadableCtError(msg)


def _even_gap(slices: Sequence[DicomSlice], heights_mm: NDArray[np.float64], *, uid: str) -> float:
    """Return the mean gap of sorted slices in mm; refuses uneven ones."""
    if len(slices) < 2:
        msg = f"A CT must have two slices or more, got 1 ({slices[0].path.name}, series {uid}). Copy the whole series."
        raise UnreadableCtError(msg)
    gaps_mm = np.diff(heights_mm)
    mean_mm = float(gaps_mm.mean())
    worst = int(np.argmax(np.abs(gaps_mm - np.median(gaps_mm))))
    between = f"{slices[worst].path.name} and {slices[worst + 1].path.name}, series {uid}"
    # 1e-6 mm: positions are decimal text.
    tolerance_mm = min(GAP_TOLERANCE_MM, GAP_TOLERANCE_RATIO * mean_mm) + 1e-6
    if gaps_mm.min() < 1e-3:
        twin = int(np.argmin(gaps_mm))
        msg = (
            f"Slices must lie at different places, got {slices[twin].path.name} and {slices[twin + 1].path.name} "
            f"at one (series {uid}). Keep one copy of each slice."
        )
        raise UnreadableCtError(msg)
    if np.abs(gaps_mm - mean_mm).max() > tolerance_mm:
        msg = (
            f"Slices must be evenly spaced, got a gap of {gaps_mm[worst]:.4g} mm among gaps of "
            f"{np.median(gaps_mm):.4g} mm (between {between}). Copy the missing slices."
        )
        raise UnreadableCtError(msg)
    return mean_mm


def _check_drift(slices: Sequence[DicomSlice], normal: NDArray[np.float64], *, uid: str) -> None:
    way = np.subtract(slices[-1].position_xyz, slices[0].position_xyz)
    drift_mm = float(np.linalg.norm(way - np.dot(way, normal) * normal))
    if drift_mm > _DRIFT_TOLERANCE_PIXELS * min(slices[0].spacing_mm[:2]):
        msg = (
            f"Slices must lie straight above each other, got a drift of {drift_mm:.4g} mm over the scan "
            f"(series {uid}). A tilted gantry is not supported: resample the CT first."
        )
        raise UnreadableCtError(msg)


def _grid(first: DicomSlice, normal: NDArray[np.float64], gap_mm: float, num_slices: int) -> VoxelGrid:
    axes = np.asarray(first.direction, dtype=np.float64).reshape(3, 3).copy()
    axes[:, 2] = normal
    num_cols, num_rows = first.size_xyz[:2]
    x_mm, y_mm, z_mm = first.position_xyz
    return VoxelGrid(
        size_irc=(num_slices, num_rows, num_cols),
        spacing_mm=(first.spacing_mm[0], first.spacing_mm[1], gap_mm),
        origin_xyz=(x_mm, y_mm, z_mm),
        direction=tuple(float(value) for value in axes.ravel()),
    )
