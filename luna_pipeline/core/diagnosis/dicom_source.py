"""The CT's own DICOM headers as the source of new objects: cleaned, completed, and in the order of the slices.

Research series lack attributes that the standard requires, or have values that it forbids: objects that copied them
would be invalid. What belongs to the patient and the study is copied, private attributes are not.

Source:
    DICOM PS3.3, C.7.1.1 (patient), C.7.2.1 (study), C.7.4.1 (frame of reference), C.7.6.2 (image plane); PS3.5, 6.2
    (values of each representation).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, dcmread
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage
from pydicom.valuerep import DA, TM, PersonName, validate_value

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.quiet import quiet_pydicom
from luna_pipeline.core.diagnosis.dicom_uids import derived_uid
from luna_pipeline.core.storage.regular_files import open_regular

UTF_8 = "ISO_IR 192"
_CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
# Type 2: an object must have them, with or without a value.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_TRIAL_NEEDS = ("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialSubjectID")
_TRIAL_MAY_BE_EMPTY = (
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialTimePointID",
)
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
PLANE = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "NumberOfFrames"),
    *("Rows", "Columns", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
# Text of these representations is a date or time, which pydicom's pattern alone does not make one.
_DATES = {"DA": DA, "TM": TM}
_ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "LossyImageCompression": {"00", "01"},
}
_NOT_COPIED = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}
_CURE = "Export the series again, or leave DICOM out with --no-dicom."


class DicomOutputError(ValueError):
    """DICOM objects cannot be written for a series; the message is one line that names ``--no-dicom``."""


def read_sources(files: Sequence[Path]) -> list[Dataset]:
    """Read the headers of a series without its pixels, cleaned as by ``clean_sources``.

    Raises:
        DicomOutputError: As for ``clean_sources``.
        OSError: If a file cannot be read.
    """
    headers = []
    for path in files:
        with quiet_pydicom(), open_regular(path) as file:
            headers.append(dcmread(file, stop_before_pixels=True, force=True))
    return clean_sources(headers)


def clean_sources(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Return headers with valid values only: that of the first image with patient and study, all with their place.

    Missing attributes that may be empty are empty. A missing frame of reference gets a UID derived from the series'.
    Text is UTF-8.

    Raises:
        DicomOutputError: If an image has no UID, is no CT, or cannot be referenced unambiguously.
    """
    if not datasets:
        raise DicomOutputError(f"DICOM objects need the CT's DICOM files, got none. {_CURE}")
    with quiet_pydicom():
        cleaned = [_cleaned(dataset, is_first=not number) for number, dataset in enumerate(datasets)]
    for dataset in cleaned:
        _check_references(dataset)
    first = cleaned[0]
    uids = [dataset.SOPInstanceUID for dataset in cleaned]
    if len(set(uids)) < len(uids):
        raise _refusal("Images of a series must have different SOPInstanceUIDs", "one twice", first)
    if len({(dataset.StudyInstanceUID, dataset.SeriesInstanceUID) for dataset in cleaned}) > 1:
        raise _refusal("The images must be of one series and study", "several", first)
    if len(cleaned) > 1 and any("PerFrameFunctionalGroupsSequence" in dataset for dataset in cleaned):
        raise _refusal("A series with several frames a file must be one file", f"{len(cleaned)} files", first)
    frame_uids = {str(dataset.FrameOfReferenceUID) for dataset in cleaned if dataset.get("FrameOfReferenceUID")}
    if len(frame_uids) > 1:
        raise _refusal("The images must share a frame of reference", f"{len(frame_uids)} of them", first)
    frame_uids = frame_uids or {derived_uid("frame of reference", first.SeriesInstanceUID)}
    for dataset in cleaned:
        (dataset.FrameOfReferenceUID,) = frame_uids
    return cleaned


def plane_positions(sources: Sequence[Dataset], grid: VoxelGrid) -> NDArray[np.float64]:
    """Return the world positions (I, 3) of the CT's planes as the headers have them, in the order of the CT's array.

    Raises:
        DicomOutputError: If the images are not those of the CT.
    """
    first = sources[0]
    try:
        found = np.array([_position_of(holder, first) for holder in _holders(sources)], dtype=np.float64)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise _refusal("Each image must have a position", type(error).__name__, first) from error
    if len(found) != grid.size_irc[0] or (first.Rows, first.Columns) != grid.size_irc[1:]:
        got = f"{len(found)} of {first.Rows} x {first.Columns}"
        raise _refusal(f"The images must be the CT's {grid.size_irc}", got, first)
    normal = np.asarray(grid.direction).reshape(3, 3)[:, 2]
    found = found[np.argsort(found @ normal, kind="stable")]
    wanted = grid.voxel_to_world(np.stack([np.arange(len(found)), *np.zeros((2, len(found)))], axis=1))
    if (away_mm := float(np.linalg.norm(found - wanted, axis=1).max())) > min(grid.spacing_mm) / 2:
        raise _refusal("The images must lie where the CT does", f"{away_mm:.3g} mm between them", first)
    return found


def with_measures(sources: Sequence[Dataset], pixel_measures: Sequence[Dataset]) -> Sequence[Dataset]:
    """Return headers in which highdicom finds the voxel's size, which it prefers to the one that it is given.

    SliceThickness is not the distance of the slices; scanners may leave it out, or give it for each frame.
    """
    if "PerFrameFunctionalGroupsSequence" not in sources[0]:
        for source in sources:
            source.SliceThickness = pixel_measures[0].SliceThickness
            source.SpacingBetweenSlices = pixel_measures[0].SpacingBetweenSlices
        return sources
    (source,), shared = sources, Dataset()
    groups = (source.PerFrameFunctionalGroupsSequence[0], *source.SharedFunctionalGroupsSequence)
    shared.PixelMeasuresSequence = pixel_measures
    shared.PlaneOrientationSequence = next(
        group.PlaneOrientationSequence for group in groups if "PlaneOrientationSequence" in group
    )
    del source.SharedFunctionalGroupsSequence
    source.SharedFunctionalGroupsSequence = [shared]
    return [source]


def _holders(sources: Sequence[Dataset]) -> Sequence[Dataset]:
    frames: Sequence[Dataset] | None = sources[0].get("PerFrameFunctionalGroupsSequence")
    return sources if frames is None else list(frames)


def _position_of(holder: Dataset, first: Dataset) -> Sequence[float]:
    """Return the position of an image or a frame; that of a single frame may be in the shared groups."""
    if "ImagePositionPatient" in holder:
        return list(holder.ImagePositionPatient)
    group = holder if "PlanePositionSequence" in holder else first.SharedFunctionalGroupsSequence[0]
    return list(group.PlanePositionSequence[0].ImagePositionPatient)


def _cleaned(dataset: Dataset, *, is_first: bool) -> Dataset:
    wanted = {*UIDS, "SOPClassUID", "FrameOfReferenceUID"}
    clean = Dataset()
    for element in _elements(dataset):
        if element.keyword in PLANE:
            clean[element.tag] = element
        elif (element.keyword in wanted or is_first) and (valid := _valid(element)) is not None:
            clean[element.tag] = valid
    for keyword in _MAY_BE_EMPTY:
        if keyword not in clean:
            setattr(clean, keyword, None)
    if clean.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethodCodeSequence" not in clean:
        clean.DeidentificationMethod = clean.get("DeidentificationMethod") or "not stated by the source"
    _complete_trial(clean)
    # The reader accepts CTs without it.
    clean.Modality = "CT"
    clean.SpecificCharacterSet = UTF_8
    return clean


def _complete_trial(clean: Dataset) -> None:
    """Complete the attributes of a clinical trial, in place; without those that need a value, all are left out."""
    found = [element.keyword for element in clean if element.keyword.startswith("ClinicalTrial")]
    if found and all(clean.get(keyword) for keyword in _TRIAL_NEEDS):
        for keyword in _TRIAL_MAY_BE_EMPTY:
            setattr(clean, keyword, clean.get(keyword))
        return
    for keyword in found:
        delattr(clean, keyword)


def _elements(dataset: Dataset) -> list[DataElement]:
    """Return the public elements, without those that pydicom cannot convert; of nested ones all."""
    elements = []
    for tag in list(dataset.keys()):
        if not tag.is_private:
            try:
                elements.append(dataset[tag])
            # Whatever pydicom raises for an element concerns this element alone.
            except Exception:
                continue
    return elements


def _valid(element: DataElement) -> DataElement | None:
    """Return a copy of an element of a header whose values are valid, None for others."""
    if element.VR in _NOT_COPIED or not element.keyword:
        return None
    if element.VR == "SQ":
        items = [_valid_item(item) for item in element.value]
        return DataElement(element.tag, "SQ", [item for item in items if item]) if any(items) else None
    value = str(element.value) if isinstance(element.value, PersonName) else element.value
    values = list(value) if element.VM > 1 else [value]
    allowed = _ENUMERATED.get(element.keyword)
    if allowed is not None and not {*values} <= allowed:
        return None
    try:
        if not _is_allowed_number(dictionary_VM(element.tag), len(values)):
            return None
        for part in values:
            validate_value(element.VR, str(part) if element.VR in {"PN", "DS", "IS", "UI"} else part, RAISE)
            if element.VR in _DATES and part:
                _DATES[element.VR](part)
    except (KeyError, TypeError, ValueError):
        return None
    return DataElement(element.tag, element.VR, value)


def _is_allowed_number(multiplicity: str, num_values: int) -> bool:
    """Return whether so many values are allowed by a multiplicity such as "1", "1-n" or "2-2n"."""
    least, _, most = multiplicity.partition("-")
    return num_values >= int(least) and (most.endswith("n") or num_values <= int(most or least))


def _valid_item(item: Dataset) -> Dataset:
    clean = Dataset()
    for element in _elements(item):
        if (valid := _valid(element)) is not None:
            clean[element.tag] = valid
    return clean


def _check_references(dataset: Dataset) -> None:
    for keyword in UIDS:
        uid = UID(str(dataset.get(keyword) or ""))
        if not uid.is_valid:
            raise DicomOutputError(f"{keyword} must be a UID in each image, got {str(uid)[:64] or 'none'!r}. {_CURE}")
    if dataset.get("SOPClassUID") not in _CT_CLASSES:
        got = str(dataset.get("SOPClassUID") or "none")[:64]
        raise _refusal("SOPClassUID must be that of a CT image", got, dataset)


def _refusal(rule: str, got: str, dataset: Dataset) -> DicomOutputError:
    return DicomOutputError(f"{rule}, got {got} (series {dataset.SeriesInstanceUID}). {_CURE}")
