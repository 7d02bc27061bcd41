"""The header of one DICOM file as slices: one, or one a frame; not a voxel is read.

Source:
    DICOM PS3.3, C.7.6.16.2 (functional groups: what differs from frame to frame stands in the per-frame item, the
    rest in the shared one); C.8.2.1.1.1 (ImageType of localizers).
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from luna_pipeline.core.ct.quiet import quiet_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_KEYWORDS = (
    "ImageType", "SOPClassUID", "Modality", "PatientID", "SeriesInstanceUID", "ImagePositionPatient",
    "ImageOrientationPatient", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleIntercept", "RescaleSlope", _SHARED, _PER_FRAME,
)  # fmt: skip
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PIXEL_GROUP, _UNDEFINED_LENGTH = 0x7FE0, 0xFFFFFFFF
# What pydicom raises on bytes that only look like DICOM.
_MALFORMED = (
    ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError, EOFError, OSError, struct.error,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class DicomSlice:
    """What the header of a file, or of a frame in it, says of one image.

    Attributes:
        path: The file.
        frame: Number of the frame in the file from 0 on; None where the file holds a single image.
        series_instance_uid: DICOM (0020,000E).
        patient_id: DICOM (0010,0020).
        modality: DICOM (0008,0060).
        why_left_out: What it is where it is no slice of a CT, else empty.
        missing: The first attribute that a slice must have and this one has not, else empty.
        size_rc: Rows and columns.
        spacing_rc_mm: Distance of neighbouring rows and of neighbouring columns.
        position_xyz: World position (LPS mm) of the first voxel.
        orientation: World directions along a row and down a column, six numbers.
        storage: Channels, bits allocated, bits stored, and whether stored numbers have a sign.
        rescale: Slope and intercept that turn a stored number into HU.
    """

    path: Path
    frame: int | None
    series_instance_uid: str
    patient_id: str
    modality: str
    why_left_out: str
    missing: str
    size_rc: tuple[int, int]
    spacing_rc_mm: tuple[float, ...]
    position_xyz: tuple[float, ...]
    orientation: tuple[float, ...]
    storage: tuple[int, int, int, int]
    rescale: tuple[float, float]

    @property
    def name(self) -> str:
        """File and frame, for messages; DICOM counts frames from 1 on."""
        return self.path.name if self.frame is None else f"frame {self.frame + 1} of {self.path.name}"


def read_slices(path: Path) -> list[DicomSlice]:
    """Read the header of a DICOM file.

    Returns:
        A slice an image in the file; none where it cannot be read, is cut off, or holds no image.
    """
    from pydicom import dcmread

    try:
        with quiet_pydicom(), path.open("rb") as file:
            dataset = dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_KEYWORDS))
            return list(_slices_of(dataset, path)) if _has_whole_pixels(file, dataset) else []
    except _MALFORMED:
        return []


def _slices_of(dataset: "FileDataset", path: Path) -> Iterator[DicomSlice]:
    frames = dataset.get(_PER_FRAME)
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if frames is None:
        # Without functional groups nothing says where a frame lies; each is refused by what it has not.
        yield from (_slice(dataset, path, frame if num_frames > 1 else None, ()) for frame in range(num_frames))
    else:
        shared = dataset.get(_SHARED) or []
        yield from (
            _slice(dataset, path, number, (frame, *shared))
            for number, frame in zip(range(num_frames), frames, strict=True)
        )


def _slice(dataset: "FileDataset", path: Path, frame: int | None, groups: tuple["Dataset", ...]) -> DicomSlice:
    def value(keyword: str, group: str) -> Any:
        """Look an attribute up where a frame has it, or where a single image has it."""
        if frame is None:
            return dataset.get(keyword)
        return next((item[group][0].get(keyword) for item in groups if group in item), None)

    geometry = {
        "PixelSpacing": _numbers(value("PixelSpacing", "PixelMeasuresSequence"), 2),
        "ImagePositionPatient": _numbers(value("ImagePositionPatient", "PlanePositionSequence"), 3),
        "ImageOrientationPatient": _numbers(value("ImageOrientationPatient", "PlaneOrientationSequence"), 6),
    }
    spacing_rc_mm, position_xyz, orientation = geometry.values()
    slope = value("RescaleSlope", "PixelValueTransformationSequence")
    intercept = value("RescaleIntercept", "PixelValueTransformationSequence")
    return DicomSlice(
        path=path,
        frame=frame,
        series_instance_uid=str(dataset.get("SeriesInstanceUID") or path.parent.name),
        patient_id=str(dataset.get("PatientID") or ""),
        modality=str(dataset.get("Modality") or ""),
        why_left_out=_why_left_out(dataset, has_place=bool(position_xyz or orientation)),
        missing=next((keyword for keyword, numbers in geometry.items() if not numbers), ""),
        size_rc=(int(dataset.Rows), int(dataset.Columns)),
        spacing_rc_mm=spacing_rc_mm,
        position_xyz=position_xyz,
        orientation=orientation,
        storage=_storage(dataset),
        rescale=(1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)),
    )


def _why_left_out(dataset: "FileDataset", *, has_place: bool) -> str:
    image_type = [str(word).upper() for word in _as_list(dataset.get("ImageType"))]
    sop_class = str(dataset.get("SOPClassUID") or "")
    if "LOCALIZER" in image_type:
        return "a localizer"
    if sop_class == _SECONDARY_CAPTURE or sop_class.startswith(f"{_SECONDARY_CAPTURE}."):
        return "a secondary capture"
    if image_type[:1] == ["DERIVED"] and not has_place:
        return "a derived picture without a place in the patient"
    return ""


def _storage(dataset: "FileDataset") -> tuple[int, int, int, int]:
    num_bits = int(dataset.BitsAllocated)
    return (
        int(dataset.get("SamplesPerPixel") or 1),
        num_bits,
        int(dataset.get("BitsStored") or num_bits),
        int(dataset.get("PixelRepresentation") or 0),
    )


def _numbers(values: Any, num_values: int) -> tuple[float, ...]:
    """Return exactly so many finite numbers, or none."""
    numbers = tuple(float(value) for value in _as_list(values))
    return numbers if len(numbers) == num_values and all(math.isfinite(number) for number in numbers) else ()


def _as_list(value: Any) -> list[Any]:
    """Return the values of an attribute: pydicom gives several as a list, a single one as itself."""
    if value is None or isinstance(value, str):
        return [value] if value else []
    return list(value)


def _has_whole_pixels(file: IO[bytes], dataset: "FileDataset") -> bool:
    """Whether the pixel data begin where reading stopped and the file holds as many bytes as they need."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        # Unpacked in memory: a file cut off does not unpack.
        return True
    is_implicit, is_little = dataset.original_encoding
    order = "<" if is_little else ">"
    head = file.read(12)
    if len(head) < 12 or struct.unpack_from(f"{order}H", head)[0] != _PIXEL_GROUP:
        return False
    (num_bytes,) = struct.unpack_from(f"{order}I", head, 4 if is_implicit else 8)
    # Compressed frames say their lengths one by one; they are found wanting when they are unpacked.
    if num_bytes == _UNDEFINED_LENGTH:
        return True
    start = file.tell() - (4 if is_implicit else 0)
    num_channels, num_bits, _, _ = _storage(dataset)
    num_voxels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    num_held = file.seek(0, 2) - start
    return num_voxels * num_channels * num_bits // 8 <= int(num_bytes) <= num_held
