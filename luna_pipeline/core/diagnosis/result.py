"""The result of a diagnosis as values: nodules, the models that found them, and where the CT came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe

Role = Literal["segmenter", "classifier", "malignancy"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Nodule:
    """A finding in a CT; voxels are those of the CT as in its file.

    Attributes:
        center_xyz: Centre of mass of the segmented voxels in world mm, sub-voxel.
        center_irc: The voxel nearest to ``center_xyz``.
        diameter_mm: Diameter of the ball of equal volume.
        long_axis_mm: Longest distance within an axial slice.
        volume_mm3: Volume of the segmented voxels.
        segmentation_score: Largest score of the segmentation within the finding, in [0, 1].
        probability: Calibrated probability of a nodule, in [0, 1].
        malignancy: Calibrated probability of malignancy, in [0, 1]; None without such a model.
        mask: Segmented voxels within a box, bool (I, R, C).
        mask_start_irc: First voxel of the box in the CT.
    """

    center_xyz: tuple[float, float, float]
    center_irc: tuple[int, int, int]
    diameter_mm: float
    long_axis_mm: float
    volume_mm3: float
    segmentation_score: float
    probability: float
    malignancy: float | None
    mask: NDArray[np.bool_]
    mask_start_irc: tuple[int, int, int]

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The slices of the CT's array that ``mask`` covers."""
        index, row, col = (
            slice(start, start + size) for start, size in zip(self.mask_start_irc, self.mask.shape, strict=True)
        )
        return index, row, col


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A model that a diagnosis used.

    Attributes:
        role: What it does.
        name: Its name.
        version: Its version.
        address: Where it was found, such as ``models:/nodule_classifier@champion`` or a file's name.
        mlflow_run_id: Its training run; None where there is none.
        weights_sha256: SHA-256 over its weights.
        threshold: Its stored decision threshold, calibrated as ``Nodule.probability`` is; None for a segmenter.
        has_unknown_origin: Whether it is not known which scans it was trained on.
        has_seen_series: Whether it was trained or validated on the diagnosed series, as far as is known.
    """

    role: Role
    name: str
    version: str
    address: str
    mlflow_run_id: str | None
    weights_sha256: str
    threshold: float | None
    has_unknown_origin: bool
    has_seen_series: bool


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Diagnosis:
    """All findings of one CT, research use only.

    Attributes:
        series_instance_uid: DICOM (0020,000E), or the file's name without its suffix.
        grid: Grid of the CT as in its file.
        nodules: Findings in falling order of probability.
        recipe: How they were found.
        models: The models that were used, a role once.
        input_fingerprint: SHA-256 over header and voxels of the input.
        lung_volume_ml: Volume of the searched lungs; None where the whole CT was searched.
        notes: What a reader must know: ignored files, a reached limit of candidates, models that have seen the series.
        seconds: Seconds by stage, in order.
        run_ids: Ids of the runs that made it, by tracker (``dagster``, ``mlflow``).
        is_synthetic: Whether the CT is a phantom.

    Raises:
        ValueError: If the nodules are in another order; every output numbers them in this one.
    """

    series_instance_uid: str
    grid: VoxelGrid
    nodules: tuple[Nodule, ...]
    recipe: DiagnosisRecipe
    models: tuple[ModelVersion, ...]
    input_fingerprint: str
    lung_volume_ml: float | None
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    run_ids: Mapping[str, str] = field(default_factory=dict)
    is_synthetic: bool = False

    def __post_init__(self) -> None:
        probabilities = [nodule.probability for nodule in self.nodules]
        if probabilities != sorted(probabilities, reverse=True):
            msg = f"Nodules must be in falling order of probability, got {probabilities[:20]}"
            raise ValueError(f"{msg} ({self.series_instance_uid}). Sort them.")

    @property
    def threshold(self) -> float:
        """The probability from which the classifier's decision is positive."""
        found = next((model.threshold for model in self.models if model.role == "classifier"), None)
        return 0.5 if found is None else found

    def model(self, role: Role) -> ModelVersion | None:
        """Return the model of a role, None if none was used."""
        return next((model for model in self.models if model.role == role), None)
