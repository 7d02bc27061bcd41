"""DICOM headers in which a patient's name stands wherever a text can stand."""

from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom._dicom_dict import DicomDictionary

NAME = "ZEBEDEE"
"""A name that occurs nowhere else; its letters are allowed in every representation of text."""
DAY = "19770707"
"""A birthday and day of the study."""

_TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_DAYS = {"DA", "DT"}
# The reader needs them as they are.
_KEPT = {"Modality", "PhotometricInterpretation", "ImageType", "SpecificCharacterSet", "RescaleType", "PatientSex"}
# Groups of the file's header, of commands and of directories are not part of an image.
_GROUPS_LEFT_OUT = {0x0000, 0x0002, 0x0004}


def plant(dataset: Dataset, name: str = NAME) -> None:
    """Set every text and date of the standard, a private element and nested ones, in place."""
    for tag, (representation, *_, keyword) in DicomDictionary.items():
        if not keyword or keyword in _KEPT or tag >> 16 in _GROUPS_LEFT_OUT:
            continue
        if representation in _TEXTS:
            dataset.add_new(tag, representation, name)
        elif representation in _DAYS:
            dataset.add_new(tag, representation, DAY)
    dataset.private_block(0x0099, name, create=True).add_new(0x01, "LO", name)
    item = Dataset()
    item.PatientName = item.PatientID = item.StudyDescription = name
    for keyword in ("OtherPatientIDsSequence", "RequestAttributesSequence", "ReferencedStudySequence"):
        setattr(dataset, keyword, [item])
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(keyword, ()):
            group.PatientName = group.ImageComments = name
            group.FrameContentSequence = [item]


def plant_in_files(folder: Path, name: str = NAME) -> Path:
    """Set every text in the DICOM files of a folder, and return it."""
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        plant(dataset, name)
        dataset.save_as(path, enforce_file_format=True)
    return folder
