"""Headers of DICOM files, as one slice for each image or frame; no voxel is read.

Source:
    DICOM PS3.3, C.7.6.16.2 (functional groups: attributes that differ between frames are in the per-frame item, the
    others in the shared one); C.8.2.1.1.1 (ImageType of localizers).
"""

import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from luna_pipeline.core.ct.quiet import quiet_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_SERIES_KEYWORDS = ("ImageType", "SOPClassUID", "Modality", "Manufacturer", "PatientID", "SeriesInstanceUID")
_PLANE_KEYWORDS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
_PIXEL_KEYWORDS = ("SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
_VALUE_KEYWORDS = ("RescaleIntercept", "RescaleSlope", _SHARED, _PER_FRAME)
_KEYWORDS = ["SliceThickness", *_SERIES_KEYWORDS, *_PLANE_KEYWORDS, *_PIXEL_KEYWORDS, *_VALUE_KEYWORDS]
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PIXEL_GROUP, _UNDEFINED_LENGTH = 0x7FE0, 0xFFFFFFFF
# Raised by pydicom for bytes that only look like DICOM.
_BAD_VALUE = (ValueError, TypeError, LookupError, AttributeError, NotImplementedError)
_MALFORMED = (*_BAD_VALUE, EOFError, OSError, struct.error, zlib.error)


class PixelStorage(NamedTuple):
    """How the numbers of an image are stored: ``num_bits`` each, of which the lower ``num_used_bits`` are used."""

    num_channels: int
    num_bits: int
    num_used_bits: int
    dtype: str


@dataclass(frozen=True)
class DicomSlice:
    """The header of one image: of a file, or of a frame in it.

    Attributes:
        path: The file.
        frame: Number of the frame in the file, from 0; None where the file holds a single image.
        series_instance_uid: DICOM (0020,000E).
        patient_id: DICOM (0010,0020).
        modality: DICOM (0008,0060).
        manufacturer: DICOM (0008,0070), of the scanner.
        thickness_mm: DICOM (0018,0050): thickness of the slice, not the distance to the next; nan where unknown.
        why_left_out: Kind of an image that is no slice of a CT, else empty.
        missing: The first required attribute that is missing, else empty.
        size_rc: Rows and columns.
        spacing_rc_mm: Distance of neighbouring rows and of neighbouring columns.
        position_xyz: World position (LPS mm) of the first voxel.
        orientation: World directions along a row and down a column, six numbers.
        storage: How its numbers are stored.
        first_byte: Their offset in the file, None where they are compressed or stored in an unusual way.
        rescale: Slope and intercept that turn a stored number into HU.
    """

    path: Path
    frame: int | None
    series_instance_uid: str
    patient_id: str
    modality: str
    manufacturer: str
    thickness_mm: float
    why_left_out: str
    missing: str
    size_rc: tuple[int, int]
    spacing_rc_mm: tuple[float, ...]
    position_xyz: tuple[float, ...]
    orientation: tuple[float, ...]
    storage: PixelStorage
    first_byte: int | None
    rescale: tuple[float, float]

    @property
    def name(self) -> str:
        """File and frame, for messages; DICOM counts frames from 1."""
        return self.path.name if self.frame is None else f"frame {self.frame + 1} of {self.path.name}"


def read_slices(path: Path) -> list[DicomSlice]:
    """Read the header of a DICOM file.

    Returns:
        A slice for each image; none where the file cannot be read, is truncated, or holds no image.
    """
    from pydicom import dcmread

    try:
        with quiet_pydicom(), path.open("rb") as file:
            dataset = dcmread(file, stop_before_pixels=True, force=True, specific_tags=_KEYWORDS)
            return list(_slices_of(dataset, path, first_byte=_first_pixel_byte(file, dataset)))
    except _MALFORMED:
        return []


def _slices_of(dataset: "FileDataset", path: Path, *, first_byte: int | None) -> Iterator[DicomSlice]:
    from pydicom import Dataset

    frames = dataset.get(_PER_FRAME)
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if frames is None and num_frames == 1:
        yield _slice(dataset, path, None, (), first_byte=first_byte)
        return
    # Without functional groups frames have no position; each is refused by the attribute that is missing.
    for number, frame in zip(range(num_frames), frames or [Dataset()] * num_frames, strict=True):
        place = None if first_byte is None else first_byte + number * _num_image_bytes(dataset)
        yield _slice(dataset, path, number, (frame, *(dataset.get(_SHARED) or [])), first_byte=place)


def _slice(
    dataset: "FileDataset", path: Path, frame: int | None, groups: tuple["Dataset", ...], *, first_byte: int | None
) -> DicomSlice:
    def value(keyword: str, group: str) -> Any:
        """Return an attribute of the frame's groups, or of a single image."""
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
        manufacturer=str(dataset.get("Manufacturer") or "").strip(),
        thickness_mm=_thickness(lambda: value("SliceThickness", "PixelMeasuresSequence")),
        why_left_out=_why_left_out(dataset, has_place=bool(position_xyz or orientation)),
        missing=next((keyword for keyword, numbers in geometry.items() if not numbers), ""),
        size_rc=(int(dataset.Rows), int(dataset.Columns)),
        spacing_rc_mm=spacing_rc_mm,
        position_xyz=position_xyz,
        orientation=orientation,
        storage=_storage(dataset),
        first_byte=first_byte,
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


def _storage(dataset: "FileDataset") -> PixelStorage:
    num_bits = int(dataset.BitsAllocated)
    order, sign = "<" if dataset.original_encoding[1] else ">", "i" if dataset.get("PixelRepresentation") else "u"
    return PixelStorage(
        num_channels=int(dataset.get("SamplesPerPixel") or 1),
        num_bits=num_bits,
        num_used_bits=int(dataset.get("BitsStored") or num_bits),
        dtype=f"{order}{sign}{num_bits // 8}",
    )


def _num_image_bytes(dataset: "FileDataset") -> int:
    storage = _storage(dataset)
    return int(dataset.Rows) * int(dataset.Columns) * storage.num_channels * storage.num_bits // 8


def _thickness(read: Callable[[], Any]) -> float:
    """Return a positive number of mm, else nan: a bad thickness does not make a CT unreadable."""
    try:
        thickness_mm = float(read())
    except _BAD_VALUE:
        return math.nan
    return thickness_mm if 0 < thickness_mm < math.inf else math.nan


def _numbers(values: Any, num_values: int) -> tuple[float, ...]:
    """Return exactly this many finite numbers, or none."""
    numbers = tuple(float(value) for value in _as_list(values))
    return numbers if len(numbers) == num_values and all(math.isfinite(number) for number in numbers) else ()


def _as_list(value: Any) -> list[Any]:
    """Return the values of an attribute as a list: pydicom returns a single one as itself."""
    if value is None or isinstance(value, str):
        return [value] if value else []
    return list(value)


def _first_pixel_byte(file: IO[bytes], dataset: "FileDataset") -> int | None:
    """Return the offset of the pixels in the file, None where they are packed or stored in an unusual way.

    Raises:
        ValueError: If there are no pixels where reading stopped, or too few.
    """
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        # Unpacked in memory by pydicom, which fails for a truncated file.
        return None
    is_implicit, is_little = dataset.original_encoding
    order = "<" if is_little else ">"
    head = file.read(8 if is_implicit else 12)
    group, num_held = struct.unpack_from(f"{order}H", head)[0], struct.unpack_from(f"{order}I", head, len(head) - 4)[0]
    # Compressed frames have a length each; they are checked when they are unpacked.
    if group == _PIXEL_GROUP and num_held == _UNDEFINED_LENGTH:
        return None
    first_byte = file.tell()
    num_bytes = _num_image_bytes(dataset) * int(dataset.get("NumberOfFrames") or 1)
    if group != _PIXEL_GROUP or not num_bytes <= num_held <= file.seek(0, os.SEEK_END) - first_byte:
        raise ValueError("no pixels, or not all of them")
    storage = _storage(dataset)
    is_usual = storage.num_bits == 16 and dataset.get("HighBit", storage.num_used_bits - 1) == storage.num_used_bits - 1
    return first_byte if is_usual else None
