"""DICOM files of a diagnosis: the segmentation and the report, or why there are none."""

import io
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.ct.quiet import quiet_pydicom
from luna_pipeline.core.diagnosis.dicom_nodules import MAX_NODULES, reported_nodules
from luna_pipeline.core.diagnosis.result import Diagnosis

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True, kw_only=True)
class DicomOutput:
    """DICOM files of a diagnosis.

    Attributes:
        files: Content by name, ``seg.dcm`` and ``sr.dcm``.
        notes: Why a file is missing, or what it leaves out, a sentence each.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def dicom_output(
    diagnosis: Diagnosis, files: Sequence[Path], *, max_nodules: int = MAX_NODULES, patient_key: bytes | None = None
) -> DicomOutput:
    """Return the DICOM files of a diagnosis; a series that cannot have them gives a note, as the diagnosis is whole.

    Args:
        diagnosis: The result.
        files: The CT's DICOM files in the order of the slices, a multi-frame file once.
        max_nodules: Largest number of nodules in them; the most probable ones are kept.
        patient_key: Key of the pseudonym in de-identified files; None for files with the patient and the study.

    Returns:
        Equal bytes for an equal diagnosis of equal files. Without a nodule at or above the threshold there is a report
        and no segmentation.
    """
    # highdicom takes half a second to import.
    from luna_pipeline.core.diagnosis.dicom_deidentified import deidentified_sources
    from luna_pipeline.core.diagnosis.dicom_seg import segmentation_dataset
    from luna_pipeline.core.diagnosis.dicom_source import DicomOutputError, read_sources
    from luna_pipeline.core.diagnosis.dicom_sr import report_dataset

    try:
        sources = read_sources(files)
        if patient_key is not None:
            sources = deidentified_sources(sources, patient_key)
        seg = segmentation_dataset(diagnosis, sources, max_nodules=max_nodules)
        report = report_dataset(diagnosis, seg, sources)
        written = {} if seg is None else {"seg.dcm": _bytes_of(seg)}
        written["sr.dcm"] = _bytes_of(report)
    except DicomOutputError as error:
        return DicomOutput(notes=(f"No seg.dcm and sr.dcm: {error}",))
    # Whatever highdicom and pydicom raise for a header concerns these two files alone.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # The error's text may hold values of the patient.
        if os.environ.get("LUNA_DEBUG"):
            traceback.print_exception(error)
        rule = f"the CT's headers must allow DICOM objects, got {type(error).__name__}"
        cure = "See the error with --debug, or leave DICOM out with --no-dicom."
        return DicomOutput(notes=(f"No seg.dcm and sr.dcm: {rule} (series {diagnosis.series_instance_uid}). {cure}",))
    num_left_out = len(reported_nodules(diagnosis)) - max_nodules
    left_out = f"seg.dcm and sr.dcm leave out {num_left_out} less probable nodules above the threshold."
    return DicomOutput(files=written, notes=(left_out,) if num_left_out > 0 else ())


def _bytes_of(dataset: "Dataset") -> bytes:
    file = io.BytesIO()
    with quiet_pydicom():
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
