"""Headers of DICOM files, as one slice for each image or frame; no voxel is read.

Source:
    DICOM PS3.3, C.7.6.3 (image pixel), C.7.6.16.2 (functional groups: attributes that differ between frames are in the
    per-frame item, the others in the shared one); C.8.2.1 (CT image: slope and intercept are required, ImageType of
    localizers); C.11.1.1.2 (rescale types).
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.ct.formats.dicom_files import DEFLATED, OpenHeader, TooManyElementsError, read_header
from luna_pipeline.core.ct.formats.dicom_slices import (
    BrokenDicomError,
    DicomSlice,
    LeftOut,
    PixelPlace,
    PixelStorage,
)
from luna_pipeline.core.ct.formats.dicom_unpacking import inflate
from luna_pipeline.core.ct.formats.dicom_values import (
    BadAttributeError,
    is_uid,
    numbers_of,
    shown_modality,
    stored_number_of,
    text_of,
    whole_number_of,
    words_of,
)
from luna_pipeline.core.ct.limits import MAX_FRAMES, check_announced_bytes
from luna_pipeline.core.ct.quiet import quiet_pydicom
from luna_pipeline.core.storage.regular_files import open_regular

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_SERIES_KEYWORDS = ("ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "Manufacturer", "PatientID")
_PLANE_KEYWORDS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
_PIXEL_KEYWORDS = ("SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
_PADDING_KEYWORDS = ("PixelPaddingValue", "PixelPaddingRangeLimit", "PhotometricInterpretation")
_VALUE_KEYWORDS = ("RescaleIntercept", "RescaleSlope", "RescaleType", _SHARED, _PER_FRAME)
_OTHER_KEYWORDS = ("SliceThickness", "SliceLocation", "SeriesInstanceUID", "AcquisitionNumber", "LossyImageCompression")
_KEYWORDS = [*_OTHER_KEYWORDS, *_SERIES_KEYWORDS, *_PLANE_KEYWORDS, *_PIXEL_KEYWORDS, *_PADDING_KEYWORDS]
_KEYWORDS += _VALUE_KEYWORDS
_CT_CLASSES = {f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("2", "2.1", "2.2")}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# ImageType of overview pictures: the standard's word, and those of scanners.
_SCOUT_WORDS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM", "SCANOSCOPE", "SCOUTVIEW"}
# Nested ones included: a frame has about 20.
_MAX_ITEMS_A_FRAME, _MAX_ITEMS = 1_000, 1_000_000
_PIXEL_TAG, _UNDEFINED_LENGTH = (0x7FE0, 0x0010), 0xFFFFFFFF
_PLAIN_SYNTAXES = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED}
# RLE; JPEG lossless (any and first-order prediction); JPEG-LS lossless and near-lossless; JPEG 2000 lossless and lossy.
_PACKED_SYNTAXES = {f"1.2.840.10008.1.2.{tail}" for tail in ("5", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91")}
# US is "unspecified"; the other words are of programs that write the unit's name.
_HU_TYPES = {"", "HU", "US", "UNSPECIFIED", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS"}


def read_slices(path: Path) -> list[DicomSlice | LeftOut]:
    """Read the header of a DICOM file.

    Returns:
        A slice for each image, or the object that is none.

    Raises:
        BrokenDicomError: If it cannot be read, is truncated, or holds no image.
    """
    try:
        with quiet_pydicom(), open_regular(path) as file:
            header = read_header(file, _KEYWORDS)
            why = _why_left_out(header.dataset)
            if why:
                return [LeftOut(path, _series_uid(header.dataset, path), why)]
            return list(_slices_of(header, path))
    # Whatever pydicom raises for a file concerns this file alone: deep sequences end in a RecursionError.
    except Exception as error:
        text = " ".join(str(_stated_cause(error)).split()).rstrip(".")[:300]
        raise BrokenDicomError(text or type(error).__name__) from error


def _stated_cause(error: BaseException) -> BaseException:
    """Return the limit that was reached, if pydicom took it for the end of the file; else the error itself."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, TooManyElementsError):
        cause = cause.__context__
    return cause or error


def _series_uid(dataset: "FileDataset", path: Path) -> str:
    uid = text_of(dataset, "SeriesInstanceUID")
    if uid and not is_uid(uid):
        raise BadAttributeError(f"SeriesInstanceUID must be digits and dots, got a text of {len(uid)} characters")
    return uid or path.parent.name


def _why_left_out(dataset: "FileDataset") -> str:
    image_type, sop_class = words_of(dataset, "ImageType"), text_of(dataset, "SOPClassUID")
    modality = text_of(dataset, "Modality").upper()
    if not _SCOUT_WORDS.isdisjoint(image_type):
        return "a localizer"
    if sop_class == _SECONDARY_CAPTURE or sop_class.startswith(f"{_SECONDARY_CAPTURE}."):
        return "a secondary capture"
    # A private class, or none, may be a CT.
    kind = "" if sop_class in {"", *_CT_CLASSES} else _uid_name(sop_class)
    if kind not in {"", sop_class} and (modality != "CT" or "Image Storage" not in kind):
        return f"{kind.removesuffix(' Storage')}, modality {shown_modality(modality) if modality else 'unknown'}"
    if modality not in {"CT", ""} and "Rows" not in dataset:
        return f"no image, modality {shown_modality(modality)}"
    if image_type[:1] != ["DERIVED"] or _PER_FRAME in dataset:
        return ""
    has_place = dataset.get("ImagePositionPatient") or dataset.get("ImageOrientationPatient")
    return "" if has_place else "a derived picture without a place in the patient"


def _slices_of(header: OpenHeader, path: Path) -> Iterator[DicomSlice]:
    dataset = header.dataset
    num_frames = whole_number_of(dataset, "NumberOfFrames", default=1) or 1
    if not 1 <= num_frames <= MAX_FRAMES:
        raise BadAttributeError(f"NumberOfFrames must be 1 to {MAX_FRAMES}, got {num_frames}")
    pixels = _pixel_place(header, num_frames, path)
    if num_frames == 1 and _PER_FRAME not in dataset:
        yield _slice(dataset, path, None, (), pixels)
        return
    for keyword in (_SHARED, _PER_FRAME):
        _check_num_items(dataset, keyword, num_frames)
    frames = list(dataset.get(_PER_FRAME) or [])
    # Without functional groups frames have no position; each is refused by the attribute that is missing.
    if frames and len(frames) != num_frames:
        raise BadAttributeError(f"{num_frames} frames must have as many functional groups, got {len(frames)}")
    num_image_bytes = 0 if pixels.syntax or num_frames == 1 else _num_image_bytes(dataset)
    for number in range(num_frames):
        groups = (*frames[number : number + 1], *(dataset.get(_SHARED) or []))
        place = pixels._replace(first_byte=pixels.first_byte + number * num_image_bytes)
        yield _slice(dataset, path, number, groups, place)


def _check_num_items(dataset: "FileDataset", keyword: str, num_frames: int) -> None:
    """Refuse a sequence with more items than frames can have, before each becomes an object of pydicom."""
    value = dataset.get_item(keyword).value if keyword in dataset else b""
    marker = b"\xfe\xff\x00\xe0" if dataset.original_encoding[1] else b"\xff\xfe\xe0\x00"
    num_items = value.count(marker) if isinstance(value, bytes) else 0
    if num_items > (limit := min(_MAX_ITEMS_A_FRAME * num_frames, _MAX_ITEMS)):
        raise BadAttributeError(f"{keyword} must have at most {limit} items for {num_frames} frames, got {num_items}")


class _Attributes:
    """Attributes of one image: of a file, or of a frame by its functional groups; what is wrong is collected."""

    def __init__(self, dataset: "FileDataset", groups: tuple["Dataset", ...] | None) -> None:
        self._dataset, self._groups = dataset, groups
        self.faults: list[str] = []

    def holder(self, group: str) -> "Dataset | None":
        """Return the data set that holds the attributes of a functional group, None where there is no such group."""
        if self._groups is None:
            return self._dataset
        return next((item[group][0] for item in self._groups if group in item), None)

    def numbers(self, keyword: str, group: str, num_values: int) -> tuple[float, ...]:
        """Return the numbers of an attribute; none where it is missing or wrong."""
        try:
            return numbers_of(self.holder(group), keyword, num_values)
        except BadAttributeError as error:
            self.faults.append(str(error))
            return ()

    def rescale(self) -> tuple[float, float]:
        """Return slope and intercept. Both are required of a CT: without them, stored numbers are no HU."""
        group = "PixelValueTransformationSequence"
        intercept = self.numbers("RescaleIntercept", group, 1) or (0.0,)
        slope = self.numbers("RescaleSlope", group, 1) or (1.0,)
        if slope[0] == 0:
            self.faults.append("RescaleSlope must not be 0, got 0")
        holder = self.holder(group)
        unit = "" if holder is None else text_of(holder, "RescaleType")
        if unit.upper() not in _HU_TYPES:
            self.faults.append(f"RescaleType must be HU, got {unit!r}")
        return slope[0], intercept[0]

    def padding(self, *, is_signed: bool) -> tuple[int, int] | None:
        """Return the lowest and highest stored number that mark voxels without a measurement."""
        try:
            value = stored_number_of(self._dataset, "PixelPaddingValue", is_signed=is_signed)
            limit = stored_number_of(self._dataset, "PixelPaddingRangeLimit", is_signed=is_signed)
        except BadAttributeError as error:
            self.faults.append(str(error))
            return None
        if value is None:
            return None
        return min(value, value if limit is None else limit), max(value, value if limit is None else limit)

    def thickness_mm(self) -> float:
        """Return a positive number of mm, else nan: a bad thickness does not make a CT unreadable."""
        thickness_mm = self._optional("SliceThickness", "PixelMeasuresSequence")
        return thickness_mm if thickness_mm > 0 else math.nan

    def location_mm(self) -> float:
        """Return the slice's location, nan where there is none: it is optional, and frames have none."""
        return self._optional("SliceLocation", "PlanePositionSequence")

    def _optional(self, keyword: str, group: str) -> float:
        try:
            return numbers_of(self.holder(group), keyword, 1)[0]
        except BadAttributeError:
            return math.nan


def _slice(
    dataset: "FileDataset", path: Path, frame: int | None, groups: tuple["Dataset", ...], pixels: PixelPlace
) -> DicomSlice:
    attributes = _Attributes(dataset, None if frame is None else groups)
    spacing_rc_mm = attributes.numbers("PixelSpacing", "PixelMeasuresSequence", 2)
    position_xyz = attributes.numbers("ImagePositionPatient", "PlanePositionSequence", 3)
    orientation = attributes.numbers("ImageOrientationPatient", "PlaneOrientationSequence", 6)
    storage = _storage(dataset)
    attributes.faults += _storage_faults(dataset, storage, pixels)
    rescale = attributes.rescale()
    padding = attributes.padding(is_signed=storage.dtype[1] == "i")
    return DicomSlice(
        path=path,
        frame=frame,
        series_instance_uid=_series_uid(dataset, path),
        sop_instance_uid=text_of(dataset, "SOPInstanceUID"),
        patient_id=text_of(dataset, "PatientID"),
        modality=text_of(dataset, "Modality").upper(),
        manufacturer=text_of(dataset, "Manufacturer"),
        acquisition=text_of(dataset, "AcquisitionNumber"),
        thickness_mm=attributes.thickness_mm(),
        is_lossy=text_of(dataset, "LossyImageCompression") == "01",
        fault=next(iter(attributes.faults), ""),
        size_rc=_size_rc(dataset),
        spacing_rc_mm=spacing_rc_mm,
        position_xyz=position_xyz,
        location_mm=attributes.location_mm(),
        orientation=orientation,
        storage=storage,
        pixels=pixels,
        rescale=rescale,
        padding=padding,
    )


def _size_rc(dataset: "FileDataset") -> tuple[int, int]:
    return whole_number_of(dataset, "Rows"), whole_number_of(dataset, "Columns")


def _storage(dataset: "FileDataset") -> PixelStorage:
    num_bits = whole_number_of(dataset, "BitsAllocated")
    order = "<" if dataset.original_encoding[1] else ">"
    sign = "i" if whole_number_of(dataset, "PixelRepresentation", default=0) else "u"
    return PixelStorage(
        num_channels=whole_number_of(dataset, "SamplesPerPixel", default=1),
        num_bits=num_bits,
        num_used_bits=whole_number_of(dataset, "BitsStored", default=num_bits),
        dtype=f"{order}{sign}{num_bits // 8}",
    )


def _storage_faults(dataset: "FileDataset", storage: PixelStorage, pixels: PixelPlace) -> list[str]:
    """Return what is wrong with the numbers' storage; label maps and pictures are refused elsewhere."""
    num_bits, num_used_bits = storage.num_bits, storage.num_used_bits
    high_bit = whole_number_of(dataset, "HighBit", default=num_used_bits - 1)
    sign = whole_number_of(dataset, "PixelRepresentation", default=0)
    display = text_of(dataset, "PhotometricInterpretation").upper()
    faults = []
    if num_bits not in {16, 32}:
        faults.append(f"BitsAllocated must be 16 or 32, got {num_bits}")
    if not 1 <= num_used_bits <= num_bits:
        faults.append(f"BitsStored must be 1 to {num_bits}, got {num_used_bits}")
    if high_bit != num_used_bits - 1:
        faults.append(f"HighBit must be BitsStored - 1 = {num_used_bits - 1}, got {high_bit}")
    if sign not in {0, 1}:
        faults.append(f"PixelRepresentation must be 0 or 1, got {sign}")
    if display not in {"", "MONOCHROME1", "MONOCHROME2"}:
        faults.append(f"PhotometricInterpretation must be MONOCHROME1 or MONOCHROME2, got {display!r}")
    if pixels.syntax and pixels.syntax not in _PACKED_SYNTAXES:
        faults.append(
            f"Pixels must be uncompressed, RLE, JPEG lossless, JPEG-LS or JPEG 2000, got {_uid_name(pixels.syntax)}"
        )
    return faults


def _uid_name(uid: str) -> str:
    """Return the standard's name of a UID, the UID itself where it has none."""
    from pydicom.uid import UID

    return UID(uid).name if is_uid(uid) else "a text" if uid else "no transfer syntax"


def _num_image_bytes(dataset: "FileDataset") -> int:
    storage, (num_rows, num_cols) = _storage(dataset), _size_rc(dataset)
    return num_rows * num_cols * storage.num_channels * storage.num_bits // 8


def _pixel_place(header: OpenHeader, num_frames: int, path: Path) -> PixelPlace:
    """Return where the pixels are; their announced length is compared with the file's.

    Raises:
        ValueError: If there are no pixels where the header ends, too few, or more than Rows and Columns say.
    """
    order = "<" if header.dataset.original_encoding[1] else ">"
    head = header.file.read(8)
    # Not by the transfer syntax, which may be wrong; as a length, which is even, OB and OW are odd.
    if head[4:6] in {b"OB", b"OW"}:
        head += header.file.read(4)
    if len(head) < 8 or struct.unpack_from(f"{order}HH", head) != _PIXEL_TAG:
        got = "another element" if head else "the end of the file"
        raise ValueError(f"PixelData must follow the header, got {got} ({_uid_name(header.syntax)})")
    num_held = struct.unpack_from(f"{order}I", head, len(head) - 4)[0]
    first_byte = header.file.tell()
    num_bytes = _num_image_bytes(header.dataset) * num_frames
    if num_bytes < 1:
        raise ValueError(f"An image must have pixels, got {_size_rc(header.dataset)} rows and columns")
    is_packed = num_held == _UNDEFINED_LENGTH
    is_stream = header.stream_start is not None
    check_announced_bytes(num_bytes, header.num_file_bytes if is_packed or is_stream else None, where=path.name)
    if is_packed:
        if header.syntax in _PLAIN_SYNTAXES:
            raise ValueError(f"Pixels of transfer syntax {header.syntax or 'unknown'} must have a length, got none")
        return PixelPlace(first_byte, header.syntax, None, num_frames)
    if header.syntax not in _PLAIN_SYNTAXES:
        name = _uid_name(header.syntax)[:80]
        raise ValueError(f"Pixels of transfer syntax {name!r} must be in fragments, got a length as of plain pixels")
    num_row_bytes = num_bytes // (num_frames * _size_rc(header.dataset)[0])
    if not num_bytes <= num_held < num_bytes + max(num_row_bytes, 2):
        raise ValueError(f"PixelData must hold {num_bytes} bytes by Rows, Columns and BitsAllocated, got {num_held}")
    num_there = _num_bytes_there(header, path, first_byte, num_bytes)
    if num_there < num_bytes:
        raise ValueError(f"PixelData must hold {num_bytes} bytes, got {num_there} before the end of the file")
    return PixelPlace(first_byte, "", header.stream_start, num_frames)


def _num_bytes_there(header: OpenHeader, path: Path, first_byte: int, num_bytes: int) -> int:
    if header.stream_start is None:
        return header.num_file_bytes - first_byte
    return len(inflate(path, header.stream_start, first_byte + num_bytes)) - first_byte
