"""Nodules of a diagnosis as a DICOM structured report with their measurements; research use only.

Source:
    DICOM PS3.16, TID 1500 (measurement report), TID 1411 (volumetric measurements), TID 1501 (measurement group).
"""

from collections.abc import Sequence
from typing import cast

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.enum import RelationshipTypeValues
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from luna_pipeline.core.ct.quiet import quiet_pydicom
from luna_pipeline.core.diagnosis.dicom_deidentified import deidentification
from luna_pipeline.core.diagnosis.dicom_nodules import (
    DEVICE,
    MANUFACTURER,
    intended_use,
    make_repeatable,
    model_parameters,
    object_attributes,
    reported_nodules,
    tracking_id,
)
from luna_pipeline.core.diagnosis.dicom_source import UTF_8, clean_sources
from luna_pipeline.core.diagnosis.dicom_uids import content_key, derived_uid, search_key, software_version, tracking_uid
from luna_pipeline.core.diagnosis.result import Diagnosis, ModelVersion, Nodule

_CT_CHEST = Code("24627-2", "LN", "CT Chest")


def report_dataset(diagnosis: Diagnosis, seg: Dataset | None, source_datasets: Sequence[Dataset]) -> Dataset:
    """Return the report on the segmented nodules, or that none was found.

    Args:
        diagnosis: The result.
        seg: Its segmentation, which decides which nodules are reported; None for no nodule.
        source_datasets: Headers of the CT's images.

    Returns:
        The object, equal for an equal diagnosis.

    Raises:
        DicomOutputError: If the headers do not allow an object that refers to them.
    """
    sources = clean_sources(source_datasets)
    nodules = reported_nodules(diagnosis, max_nodules=0 if seg is None else len(seg.SegmentSequence))
    seg_uid = "" if seg is None else str(seg.SOPInstanceUID)
    key = content_key(diagnosis, kind="sr", seg=seg_uid, **deidentification(sources))
    groups = [
        _group(diagnosis, seg, number, nodule) for number, nodule in enumerate(nodules, start=1) if seg is not None
    ]
    with quiet_pydicom():
        report = MeasurementReport(
            observation_context=ObservationContext(observer_device_context=_observer()),
            procedure_reported=_CT_CHEST,
            imaging_measurements=groups or [_nothing_found(diagnosis)],
            title=codes.DCM.ImagingMeasurementReport,
        )
        for text in _comments(diagnosis, len(nodules)):
            report[0].ContentSequence.append(_text(text))
        dataset = Comprehensive3DSR(
            evidence=[*sources, *([] if seg is None else [seg])],
            content=report[0],
            is_complete=True,
            specific_character_set=UTF_8,
            **object_attributes(diagnosis, "sr", key, sources[0]),
        )
    make_repeatable(dataset, key)
    return dataset


def _group(
    diagnosis: Diagnosis, seg: Dataset, number: int, nodule: Nodule
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the measurements of a nodule, which refer to its segment and share its tracking UID."""
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(tracking_uid(diagnosis, nodule), tracking_id(number)),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(diagnosis.series_instance_uid),
        ),
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_type=codes.SCT.Nodule,
        finding_sites=[FindingSite(anatomic_location=codes.SCT.Lung)],
        algorithm_id=_algorithm(diagnosis.model("segmenter"), diagnosis),
        measurements=_measurements(diagnosis, nodule),
    )


def _measurements(diagnosis: Diagnosis, nodule: Nodule) -> list[Measurement]:
    sizes = (
        (codes.SCT.Diameter, nodule.diameter_mm, codes.UCUM.Millimeter),
        (codes.SCT.LongAxis, nodule.long_axis_mm, codes.UCUM.Millimeter),
        (codes.SCT.Volume, nodule.volume_mm3, codes.UCUM.CubicMillimeter),
    )
    found = [Measurement(name=name, value=round(float(value), 3), unit=unit) for name, value, unit in sizes]
    shares = (
        (codes.DCM.CertaintyOfFinding, nodule.probability, "classifier"),
        (codes.DCM.ProbabilityOfCancer, nodule.malignancy, "malignancy"),
    )
    for name, share, role in shares:
        if share is not None:
            model = next((model for model in diagnosis.models if model.role == role), None)
            algorithm = _algorithm(model, diagnosis)
            percent = round(100 * float(share), 4)
            found.append(Measurement(name=name, value=percent, unit=codes.UCUM.Percent, algorithm_id=algorithm))
    return found


def _nothing_found(diagnosis: Diagnosis) -> MeasurementsAndQualitativeEvaluations:
    """Return the group that says that no nodule was found: a segmentation without segments is not allowed."""
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(derived_uid("no nodule", search_key(diagnosis)), "No nodule"),
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_type=codes.SCT.Nodule,
        finding_sites=[FindingSite(anatomic_location=codes.SCT.Lung)],
        algorithm_id=_algorithm(diagnosis.model("segmenter"), diagnosis),
        qualitative_evaluations=[QualitativeEvaluation(name=codes.DCM.PresenceOfProperty, value=codes.SCT.Absent)],
    )


def _algorithm(model: ModelVersion | None, diagnosis: Diagnosis) -> AlgorithmIdentification:
    if model is None:
        return AlgorithmIdentification(name=DEVICE, version=software_version())
    parameters = {"recipe": diagnosis.recipe.name} | model_parameters(model)
    texts = [f"{name}={value}" for name, value in parameters.items()]
    return AlgorithmIdentification(model.name, model.version, parameters=texts)


def _observer() -> ObserverContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", software_version()),
        name=DEVICE,
        manufacturer_name=MANUFACTURER,
        model_name=f"{DEVICE} {software_version()}",
    )
    return ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)


def _comments(diagnosis: Diagnosis, num_reported: int) -> list[str]:
    """Return what a reader must know beside the measurements, and where the result comes from."""
    found = f"{num_reported} of {len(diagnosis.nodules)} findings, the most probable ones at or above the threshold of"
    origin = {"recipe": diagnosis.recipe.name, "input_sha256": diagnosis.input_fingerprint}
    origin |= {f"{tracker}_run_id": run_id for tracker, run_id in sorted(diagnosis.run_ids.items())}
    return [
        intended_use(diagnosis),
        f"Reported: {found} {diagnosis.threshold:.4g}. Probabilities are estimates of models, not a reading.",
        ", ".join(f"{name}={value}" for name, value in origin.items()),
    ]


def _text(text: str) -> TextContentItem:
    name = cast(CodedConcept, codes.DCM.Comment)
    return TextContentItem(name=name, value=text, relationship_type=RelationshipTypeValues.CONTAINS)
