"""Nodules of a diagnosis as a DICOM segmentation of the CT, one binary segment a nodule; research use only.

Source:
    DICOM PS3.3, A.51 (segmentation IOD), C.8.20 (segment descriptions).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence, PlanePositionSequence
from highdicom.color import CIELabColor
from highdicom.content import PlaneOrientationSequence
from highdicom.enum import CoordinateSystemNames
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import format_number_as_ds

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.quiet import quiet_pydicom
from luna_pipeline.core.diagnosis.dicom_deidentified import deidentification
from luna_pipeline.core.diagnosis.dicom_nodules import (
    MANUFACTURER,
    MAX_NODULES,
    intended_use,
    make_repeatable,
    model_parameters,
    object_attributes,
    reported_nodules,
    tracking_id,
)
from luna_pipeline.core.diagnosis.dicom_source import UTF_8, clean_sources, plane_positions, with_measures
from luna_pipeline.core.diagnosis.dicom_uids import content_key, software_version, tracking_uid
from luna_pipeline.core.diagnosis.result import Diagnosis, ModelVersion, Nodule


def segmentation_dataset(
    diagnosis: Diagnosis,
    source_datasets: Sequence[Dataset],
    *,
    max_nodules: int = MAX_NODULES,
    omits_empty_frames: bool = True,
) -> Dataset | None:
    """Return the segmentation of the reported nodules, segment k the k-th of them.

    Args:
        diagnosis: The result.
        source_datasets: Headers of the CT's images, or of its multi-frame image; pixels are not needed.
        max_nodules: Largest number of segments; the most probable nodules are kept.
        omits_empty_frames: Whether a segment has frames only where it has voxels. Old viewers (OHIF 2) misplace such
            segments; with all frames 40 nodules in 240 slices take 315 MB.

    Returns:
        The object, equal for an equal diagnosis; None without a reported nodule, as a segmentation needs a segment.

    Raises:
        DicomOutputError: If the headers do not allow an object that refers to them.
    """
    nodules = reported_nodules(diagnosis, max_nodules=max_nodules)
    if not nodules:
        return None
    sources = clean_sources(source_datasets)
    positions = plane_positions(sources, diagnosis.grid)
    planes = _planes_with(nodules) if omits_empty_frames else np.arange(diagnosis.grid.size_irc[0])
    options = {"max_nodules": max_nodules, "omits_empty_frames": omits_empty_frames} | deidentification(sources)
    key = content_key(diagnosis, kind="seg", **options)
    with quiet_pydicom():
        dataset = Segmentation(
            source_images=with_measures(sources, _pixel_measures(diagnosis.grid)),
            pixel_array=_segments(nodules, planes, diagnosis.grid.size_irc),
            segmentation_type="BINARY",
            segment_descriptions=_descriptions(diagnosis, nodules),
            content_label="NODULES",
            content_description=intended_use(diagnosis),
            omit_empty_frames=omits_empty_frames,
            specific_character_set=UTF_8,
            **object_attributes(diagnosis, "seg", key, sources[0]),
            **_places(diagnosis.grid, positions[planes]),
        )
    # Required, also for objects that no person made.
    dataset.ContentCreatorName = None
    make_repeatable(dataset, key)
    return dataset


def _planes_with(nodules: Iterable[Nodule]) -> NDArray[np.int64]:
    found = {nodule.mask_start_irc[0] + int(k) for nodule in nodules for k in np.flatnonzero(nodule.mask.any((1, 2)))}
    return np.array(sorted(found), dtype=np.int64)


def _segments(
    nodules: Sequence[Nodule], planes: NDArray[np.int64], size_irc: tuple[int, int, int]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the segments on the given planes: numbers (P, R, C), or a stack (P, R, C, N) where voxels are shared."""
    place = {int(plane): at for at, plane in enumerate(planes)}
    dtype = np.uint8 if len(nodules) < 256 else np.uint16
    numbers = np.zeros((len(planes), *size_irc[1:]), dtype=dtype)
    is_shared = False
    for number, nodule in enumerate(nodules, start=1):
        for at, rows_cols, mask in _masks_by_plane(nodule, place):
            part = numbers[at][rows_cols]
            is_shared |= bool((part[mask] > 0).any())
            part[mask] = number
    if not is_shared:
        return numbers
    stack = np.zeros((*numbers.shape, len(nodules)), dtype=np.uint8)
    for number, nodule in enumerate(nodules):
        for at, rows_cols, mask in _masks_by_plane(nodule, place):
            stack[at][rows_cols][mask, number] = 1
    return stack


def _masks_by_plane(
    nodule: Nodule, place: dict[int, int]
) -> Iterable[tuple[int, tuple[slice, slice], NDArray[np.bool_]]]:
    _, rows, cols = nodule.box
    for offset, mask in enumerate(nodule.mask):
        if mask.any():
            yield place[nodule.mask_start_irc[0] + offset], (rows, cols), mask


def _descriptions(diagnosis: Diagnosis, nodules: Sequence[Nodule]) -> list[SegmentDescription]:
    model = diagnosis.model("segmenter") or diagnosis.models[0]
    algorithm = AlgorithmIdentificationSequence(
        name=model.name[:64],
        family=codes.cid7162.ArtificialIntelligence,
        version=model.version[:64],
        source=f"{MANUFACTURER} {software_version()}"[:64],
        parameters=_parameters(diagnosis),
    )
    described = []
    for number, nodule in enumerate(nodules, start=1):
        # Some viewers show nothing but the label.
        size = f"{nodule.diameter_mm:.1f} mm"
        item = SegmentDescription(
            segment_number=number,
            segment_label=f"Nodule {number}, p {nodule.probability:.3f}, {size}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Nodule,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=tracking_uid(diagnosis, nodule),
            tracking_id=tracking_id(number),
            anatomic_regions=[codes.SCT.Lung],
            display_color=_color(number),
        )
        malignancy = "" if nodule.malignancy is None else f", malignancy {nodule.malignancy:.3f}"
        values = (
            f"Probability {nodule.probability:.4f}{malignancy}, diameter {size}, volume {nodule.volume_mm3:.1f} mm3."
        )
        item.SegmentDescription = f"{values} {intended_use(diagnosis)}"
        described.append(item)
    return described


def _color(number: int) -> CIELabColor:
    """Return a colour unlike those of the numbers before it: hues at the golden angle."""
    angle = np.deg2rad(137.5 * number)
    return CIELabColor(l_star=65.0, a_star=60.0 * float(np.cos(angle)), b_star=60.0 * float(np.sin(angle)))


def _parameters(diagnosis: Diagnosis) -> dict[str, str]:
    """Return what a reader needs to trace the segments: recipe, input, models and runs."""
    models = {f"{model.role}.{name}": value for model in diagnosis.models for name, value in _named(model).items()}
    runs = {f"{tracker}_run_id": run_id for tracker, run_id in sorted(diagnosis.run_ids.items())}
    return {"recipe": diagnosis.recipe.name, "input_sha256": diagnosis.input_fingerprint} | models | runs


def _named(model: ModelVersion) -> dict[str, str]:
    return {"name": model.name, "version": model.version} | model_parameters(model)


def _pixel_measures(grid: VoxelGrid) -> PixelMeasuresSequence:
    """Return the voxel's size: readers place frames by the distance of slices where some are left out between them."""
    col_mm, row_mm, index_mm = (float(format_number_as_ds(value)) for value in grid.spacing_mm)
    return PixelMeasuresSequence((row_mm, col_mm), slice_thickness=index_mm, spacing_between_slices=index_mm)


def _places(grid: VoxelGrid, positions_xyz: NDArray[np.float64]) -> dict[str, Any]:
    """Return the functional groups of the planes' places."""
    axes = np.asarray(grid.direction).reshape(3, 3)
    return {
        "pixel_measures": _pixel_measures(grid),
        "plane_orientation": PlaneOrientationSequence(
            CoordinateSystemNames.PATIENT, [float(value) for value in (*axes[:, 0], *axes[:, 1])]
        ),
        "plane_positions": [
            PlanePositionSequence(CoordinateSystemNames.PATIENT, [float(value) for value in position])
            for position in positions_xyz
        ],
    }
