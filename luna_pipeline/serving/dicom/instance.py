"""One CT image as it arrives: what its header says, and whether it is accepted."""

import hashlib
import io
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.ct.formats.dicom_files import read_header
from luna_pipeline.core.ct.quiet import quiet_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset

OUT_OF_RESOURCES, NOT_OF_ITS_CLASS, NOT_UNDERSTOOD = 0xA700, 0xA900, 0xC000
"""Status of C-STORE, DICOM PS3.4, B.2.3."""
CT_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("2", "2.1", "2.2"))
"""CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image."""
_KEYWORDS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns", "NumberOfFrames"),
    *("NumberOfSeriesRelatedInstances", "ImagesInAcquisition", "AcquisitionNumber"),
]
# pydicom's switches for warnings are global to the process.
_parsing = threading.Lock()


class RefusedInstanceError(ValueError):
    """An instance is not accepted; the message holds no value of its header.

    Attributes:
        status: Status of the answer.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Header of an accepted image; of its UIDs only digests are kept.

    Attributes:
        series: Digest of the SeriesInstanceUID, 32 hexadecimal digits.
        name: Name of its file, the digests of series and SOPInstanceUID.
        num_voxels: Rows x columns x frames.
        num_expected: Number of instances of the series, or of the acquisition, by the header; None if it has none.
        acquisition: Digest of the AcquisitionNumber if ``num_expected`` counts the acquisition; empty otherwise.
    """

    series: str
    name: str
    num_voxels: int
    num_expected: int | None = None
    acquisition: str = ""


def read_instance(encoded: bytes, *, sop_class_uid: str, sop_instance_uid: str) -> Instance:
    """Read the header of an image in the DICOM file format.

    Args:
        encoded: The file: preamble, meta header and data set.
        sop_class_uid: Class by the C-STORE request.
        sop_instance_uid: UID by the C-STORE request.

    Raises:
        RefusedInstanceError: If it is no CT image, differs from the request, or cannot be read.
    """
    try:
        with _parsing, quiet_pydicom(), io.BytesIO(encoded) as file:
            dataset: Dataset = read_header(file, _KEYWORDS).dataset
            values = {keyword: _text(dataset, keyword) for keyword in _KEYWORDS}
    # Whatever pydicom raises for bytes from outside refuses this instance alone.
    except Exception as error:
        message = f"An instance must be readable DICOM, got {type(error).__name__}. Export it again."
        raise RefusedInstanceError(message, status=NOT_UNDERSTOOD) from None
    _check(values, sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid)
    series = digest_of(values["SeriesInstanceUID"])
    num_frames = _count(values["NumberOfFrames"]) or 1
    in_series, in_acquisition = _count(values["NumberOfSeriesRelatedInstances"]), _count(values["ImagesInAcquisition"])
    counts_acquisition = in_series is None and in_acquisition is not None
    return Instance(
        series=series,
        name=f"{series}-{digest_of(values['SOPInstanceUID'])}.dcm",
        num_voxels=(_count(values["Rows"]) or 0) * (_count(values["Columns"]) or 0) * num_frames,
        num_expected=in_acquisition if counts_acquisition else in_series,
        acquisition=digest_of(values["AcquisitionNumber"]) if counts_acquisition else "",
    )


def digest_of(text: str) -> str:
    """Return 32 hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]


def _check(values: dict[str, str], *, sop_class_uid: str, sop_instance_uid: str) -> None:
    from pydicom.uid import UID

    for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
        if not UID(values[keyword]).is_valid:
            message = f"{keyword} must be a UID, got {'another text' if values[keyword] else 'none'}. Export it again."
            raise RefusedInstanceError(message, status=NOT_UNDERSTOOD)
    if values["SOPClassUID"] not in CT_CLASSES or values["Modality"] != "CT":
        message = "An instance must be a CT image, got another class or modality. Send CT series only."
        raise RefusedInstanceError(message, status=NOT_OF_ITS_CLASS)
    if (values["SOPClassUID"], values["SOPInstanceUID"]) != (sop_class_uid, sop_instance_uid):
        message = "SOP class and instance must be those of the C-STORE request, got others. Export it again."
        raise RefusedInstanceError(message, status=NOT_OF_ITS_CLASS)
    if not (_count(values["Rows"]) and _count(values["Columns"])):
        message = "Rows and Columns must be positive numbers, got others. Export it again."
        raise RefusedInstanceError(message, status=NOT_UNDERSTOOD)


def _text(dataset: "Dataset", keyword: str) -> str:
    value: Any = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _count(text: str) -> int | None:
    """Return a positive number of at most nine digits, None for other texts."""
    return int(text) or None if text.isascii() and text.isdigit() and len(text) < 10 else None
