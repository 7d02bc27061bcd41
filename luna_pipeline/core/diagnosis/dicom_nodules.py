"""What the DICOM segmentation and the DICOM report of a diagnosis have in common."""

import datetime
from typing import TYPE_CHECKING, Any

from luna_pipeline.core.diagnosis.dicom_uids import derived_uid, search_key, software_version
from luna_pipeline.core.diagnosis.result import Diagnosis, ModelVersion, Nodule
from luna_pipeline.core.diagnosis.tables import INTENDED_USE

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "luna_pipeline"
DEVICE = "luna_pipeline diagnosis"
SERIES_DESCRIPTION = "Lung nodules, research use only"
# Beside the few series of a study.
_SERIES_NUMBERS = {"seg": 9001, "sr": 9002}
MAX_NODULES = 100
"""Largest number of nodules in DICOM objects."""


def reported_nodules(diagnosis: Diagnosis, *, max_nodules: int | None = None) -> tuple[Nodule, ...]:
    """Return the nodules that DICOM objects state: the most probable ones at or above the decision threshold."""
    likely = [nodule for nodule in diagnosis.nodules if nodule.probability >= diagnosis.threshold]
    return tuple(likely[:max_nodules])


def tracking_id(number: int) -> str:
    """Return the readable name of the k-th reported nodule, which segmentation and report share."""
    return f"Nodule {number}"


def intended_use(diagnosis: Diagnosis) -> str:
    """Return what the result may be used for, at most 64 characters."""
    return f"Synthetic CT. {INTENDED_USE}" if diagnosis.is_synthetic else INTENDED_USE


def model_parameters(model: ModelVersion) -> dict[str, str]:
    """Return what identifies a model beside name and version, and why its result may look better than it is."""
    found = {"role": model.role, "address": model.address, "weights_sha256": model.weights_sha256}
    if model.mlflow_run_id is not None:
        found["mlflow_run_id"] = model.mlflow_run_id
    flags = {"has_unknown_origin": model.has_unknown_origin, "has_seen_series": model.has_seen_series}
    return found | {name: "yes" for name, is_set in flags.items() if is_set}


def object_attributes(diagnosis: Diagnosis, kind: str, key: str, source: "Dataset") -> dict[str, Any]:
    """Return highdicom's arguments that both objects share: series, identity, device and time.

    Args:
        diagnosis: The result.
        kind: ``seg`` or ``sr``.
        key: Digest of the content.
        source: An image of the CT.
    """
    date, time = _content_time(source)
    return {
        "series_instance_uid": derived_uid(f"{kind} series", search_key(diagnosis)),
        "series_number": _SERIES_NUMBERS[kind],
        "series_description": SERIES_DESCRIPTION,
        "sop_instance_uid": derived_uid(kind, key),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": DEVICE,
        "software_versions": software_version(),
        "device_serial_number": "0",
        "content_date": date,
        "content_time": time,
    }


def _content_time(source: "Dataset") -> tuple[datetime.date, datetime.time]:
    """Return the date and time of an object: the study's, so that a rerun writes equal files; 1900 without a date."""
    from pydicom.valuerep import DA, TM

    return DA(source.get("StudyDate")) or datetime.date(1900, 1, 1), TM(source.get("StudyTime")) or datetime.time()


def make_repeatable(dataset: "Dataset", key: str) -> None:
    """Replace, in place, what highdicom draws or takes from the clock."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    # The last one is highdicom itself; that of the scanner has the time of acquisition.
    dataset.ContributingEquipmentSequence[-1].pop("ContributionDateTime", None)
    organization = derived_uid("dimensions", key)
    for item in (*dataset.get("DimensionOrganizationSequence", ()), *dataset.get("DimensionIndexSequence", ())):
        item.DimensionOrganizationUID = organization
