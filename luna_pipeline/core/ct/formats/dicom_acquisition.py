"""How a DICOM series was acquired and reconstructed, from the header of one slice.

Only attributes of scanner and technique are read. No attribute of the patient, no date and no free text is returned.

Source:
    DICOM PS3.3, C.7.5.1 (scanner), C.8.2.1 (CT image); C.8.15.3 (functional groups of enhanced CT, in which the same
    facts have other places, names and units).
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.ct.formats.dicom_files import is_dicom_file, read_header
from luna_pipeline.core.ct.formats.dicom_headers import read_slices
from luna_pipeline.core.ct.formats.dicom_slices import BrokenDicomError, DicomSlice
from luna_pipeline.core.ct.formats.dicom_values import BadAttributeError, numbers_of, text_of
from luna_pipeline.core.ct.quiet import quiet_pydicom
from luna_pipeline.core.storage.regular_files import is_regular, open_regular

if TYPE_CHECKING:
    from pydicom import Dataset

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_KEYWORDS = [
    *("ManufacturerModelName", "ConvolutionKernel", "KVP", "Exposure", "XRayTubeCurrent", "ExposureTime"),
    *("ContrastBolusAgent", "ContrastBolusAgentSequence", "PatientPosition", _SHARED, _PER_FRAME),
]
_GROUPS = ("CTReconstructionSequence", "CTXRayDetailsSequence", "CTExposureSequence", "ContrastBolusUsageSequence")
# Texts by which scanners state that no contrast agent was given.
_NO_AGENT = {"NO", "NONE", "N", "0", "OFF", "WITHOUT", "NO CONTRAST", "NON CONTRAST", "UNENHANCED", "NATIVE", "NIL"}
_MAX_TEXT = 40
_POSITIONS = {a + b for a in ("HF", "FF") for b in ("S", "P", "DL", "DR")}


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """Technique of a series; None or nan where the header does not state it.

    Attributes:
        model: DICOM (0008,1090), of the scanner.
        kernel: DICOM (0018,1210), the reconstruction's convolution kernel; several are joined by a slash.
        tube_kv: DICOM (0018,0060), peak voltage of the tube in kV.
        tube_mas: Tube current (0018,1151) in mA times exposure time (0018,1150) in s, else the exposure (0018,1152):
            some scanners write the latter in another unit.
        contrast: "given" or "not given", by (0018,0010); None where the header is silent, which is not the same.
        position: DICOM (0018,5100), such as HFS: head first, supine.
    """

    model: str | None = None
    kernel: str | None = None
    tube_kv: float = math.nan
    tube_mas: float = math.nan
    contrast: str | None = None
    position: str | None = None


def acquisitions_of_folder(folder: Path, series: Collection[str]) -> dict[str, Acquisition]:
    """Return the technique of series by the first slice of each in a folder.

    Args:
        folder: Folder with DICOM files; those of other series and objects that are no slices are skipped.
        series: The series uids.

    Returns:
        Technique by series; without those of which the folder holds no slice.
    """
    found: dict[str, Acquisition] = {}
    for path in sorted(folder.iterdir()):
        # One by one: of a folder with one series, usually the first file is a slice, and no other is opened.
        if len(found) == len(set(series)):
            break
        if not (is_regular(path) and is_dicom_file(path)):
            continue
        try:
            items = read_slices(path)
        except BrokenDicomError:
            continue
        new = {item.series_instance_uid for item in items if isinstance(item, DicomSlice)} & set(series) - found.keys()
        found |= {uid: read_acquisition(path) for uid in new}
    return found


def read_acquisition(path: Path) -> Acquisition:
    """Return the technique that the header of a DICOM slice states.

    Raises:
        Exception: Whatever pydicom raises for a file that is no DICOM; ``read_slices`` refuses these.
    """
    with quiet_pydicom(), open_regular(path) as file:
        places = list(_places(read_header(file, _KEYWORDS).dataset))
        current_ma = _first_number(places, "XRayTubeCurrent", "XRayTubeCurrentInmA")
        time_ms = _first_number(places, "ExposureTime", "ExposureTimeInms")
        stated_mas = _first_number(places, "Exposure", "ExposureInmAs")
        product_mas = current_ma * time_ms / 1000
        position = (_first_text(places, "PatientPosition") or "").upper()
        return Acquisition(
            model=_first_text(places, "ManufacturerModelName"),
            kernel=_first_text(places, "ConvolutionKernel"),
            tube_kv=_first_number(places, "KVP"),
            tube_mas=product_mas if product_mas > 0 else stated_mas,
            contrast=_contrast(places),
            position=position if position in _POSITIONS else None,
        )


def _places(dataset: "Dataset") -> "Iterator[Dataset]":
    """Return the data sets that may hold an attribute: the file's, then those of its functional groups."""
    yield dataset
    for keyword in (_SHARED, _PER_FRAME):
        for item in list(dataset.get(keyword) or [])[:1]:
            for group in _GROUPS:
                yield from list(item.get(group) or [])[:1]


def _first_text(places: "list[Dataset]", keyword: str) -> str | None:
    """Return printable text of limited length, the values of several joined by a slash."""
    for place in places:
        value = place.get(keyword)
        words = [value] if isinstance(value, str) else [str(word) for word in value or []]
        text = "/".join(word.strip(" \0") for word in words)
        if text.strip("/"):
            return "".join(letter if letter.isprintable() else "?" for letter in text)[:_MAX_TEXT]
    return None


def _first_number(places: "list[Dataset]", *keywords: str) -> float:
    for place in places:
        for keyword in keywords:
            try:
                value = numbers_of(place, keyword, 1)[0]
            except BadAttributeError:
                continue
            if value > 0:
                return value
    return math.nan


def _contrast(places: "list[Dataset]") -> str | None:
    if places[0].get("ContrastBolusAgentSequence") and not text_of(places[0], "ContrastBolusAgent"):
        return "given"
    agent = text_of(places[0], "ContrastBolusAgent").upper().strip(" .")
    if not agent:
        return None
    return "not given" if agent in _NO_AGENT else "given"
