"""From a CT to its nodules: lungs, segmentation, grouping, classification, malignancy."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.ct.reading import Ct
from luna_pipeline.core.cutouts.cutting import CuttingParameters, box_starts
from luna_pipeline.core.diagnosis.classifying import classify
from luna_pipeline.core.diagnosis.grouping import Box, Finding, group
from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe
from luna_pipeline.core.diagnosis.result import Diagnosis, ModelVersion, Nodule
from luna_pipeline.core.diagnosis.segmenting import segment
from luna_pipeline.core.diagnosis.stages import OnProgress, Stages
from luna_pipeline.core.lungs.mask import Lungs, find_lungs, tight_box
from luna_pipeline.core.metrics.decision import UNDECIDED, Decision


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class DiagnosisModel:
    """A trained network with its decision.

    Attributes:
        network: A segmenter, or a classifier of cutouts.
        version: Where it comes from.
        chunk_shape_irc: Voxels of a classifier's cutouts.
        decision: A classifier's thresholds and calibration.
    """

    network: nn.Module
    version: ModelVersion
    chunk_shape_irc: tuple[int, int, int]
    decision: Decision = UNDECIDED

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated probabilities of scores; the scores themselves without a calibration."""
        return self.decision.calibrated(scores) if self.decision.is_calibrated else scores


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class DiagnosisModels:
    """The models of a diagnosis; without a ``malignancy`` model no malignancy is given."""

    segmenter: DiagnosisModel
    classifier: DiagnosisModel
    malignancy: DiagnosisModel | None = None

    @property
    def versions(self) -> tuple[ModelVersion, ...]:
        """Where the models come from, in the order of their use."""
        return tuple(model.version for model in (self.segmenter, *self.classifiers))

    @property
    def classifiers(self) -> tuple[DiagnosisModel, ...]:
        """The classifier of nodules and, if there is one, that of malignancy."""
        return (self.classifier,) if self.malignancy is None else (self.classifier, self.malignancy)


def diagnose(
    ct: Ct,
    models: DiagnosisModels,
    recipe: DiagnosisRecipe,
    *,
    lungs: Lungs | None = None,
    device: torch.device | str = "cpu",
    on_progress: OnProgress | None = None,
) -> Diagnosis:
    """Return the nodules of a CT of any orientation, without provenance of the input.

    Args:
        ct: The CT.
        models: Segmenter, classifier and, optionally, malignancy classifier.
        recipe: How the CT is searched.
        lungs: The CT's lungs, if they are known; a recipe that searches the whole CT needs none.
        device: Where the networks run.
        on_progress: Called during each stage.

    Raises:
        NoLungsError: If the recipe searches the lungs and there are none.
        ValueError: If the CT is too small for the edge rule ``shift``.
        NonFiniteError: If a score is nan.
    """
    stages = Stages(on_progress)
    view = AxialView(ct.grid)
    for model in models.classifiers:
        # Before the CT is searched: a CT that is too small is refused, whatever is found in it.
        box_starts(np.empty((0, 3), dtype=np.int64), view.grid.size_irc, _parameters(model, recipe))
    hounsfield = view.of(ct.hounsfield)
    if recipe.lungs_only and lungs is None:
        with stages.timed("lungs"):
            lungs = find_lungs(ct.hounsfield, ct.grid)
    searched = view.of(lungs.searched(recipe.lung_margin_mm).mask) if recipe.lungs_only and lungs is not None else None
    findings = _findings(hounsfield, view.grid, searched, models.segmenter, recipe, device, stages)
    del searched
    scores = _scores(models, findings, hounsfield, view.grid, recipe, device, stages)
    return Diagnosis(
        series_instance_uid=ct.series_instance_uid,
        grid=ct.grid,
        nodules=_nodules(findings, view, models, scores),
        recipe=recipe,
        models=models.versions,
        input_fingerprint="",
        lung_volume_ml=None if lungs is None else lungs.volume_ml,
        notes=(*(() if lungs is None else lungs.notes), *_notes(models, recipe, len(findings))),
        seconds=stages.seconds,
    )


def _findings(
    hounsfield: NDArray[np.int16],
    grid: VoxelGrid,
    searched: NDArray[np.bool_] | None,
    segmenter: DiagnosisModel,
    recipe: DiagnosisRecipe,
    device: torch.device | str,
    stages: Stages,
) -> list[Finding]:
    """Return what the segmenter finds in the axial view, or within the mask of its searched voxels."""
    num_slices, num_rows, num_cols = grid.size_irc
    whole: Box = (slice(0, num_slices), slice(0, num_rows), slice(0, num_cols))
    box = whole if searched is None else tight_box(searched)
    with stages.timed("segmentation") as on_part:
        inside = None if searched is None else searched[box]
        scores = segment(
            segmenter.network, hounsfield, box, recipe, searched=inside, device=device, on_progress=on_part
        )
    with stages.timed("grouping"):
        if inside is not None:
            # Slice by slice: an inverted mask of the whole box would take memory.
            for in_slice, is_searched in zip(scores, inside, strict=True):
                in_slice[~is_searched] = 0.0
        return group(scores, box=box, grid_axial=grid, recipe=recipe, hounsfield_axial=hounsfield)


def _scores(
    models: DiagnosisModels,
    findings: list[Finding],
    hounsfield: NDArray[np.int16],
    grid: VoxelGrid,
    recipe: DiagnosisRecipe,
    device: torch.device | str,
    stages: Stages,
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of the findings by role of each classifier."""
    # Whole voxels of the view: positions in mm would round ties by the CT's origin. Ties go to even voxels, as in the
    # book.
    centers = np.rint(np.asarray([finding.center_irc for finding in findings]).reshape(-1, 3))
    centers_xyz = grid.voxel_to_world(centers)
    scores: dict[str, NDArray[np.float64]] = {}
    for stage, model in zip(("classification", "malignancy"), models.classifiers, strict=False):
        with stages.timed(stage, len(findings)) as on_part:
            scores[model.version.role] = classify(
                model.network,
                hounsfield,
                grid,
                centers_xyz,
                parameters=_parameters(model, recipe),
                num_flips=recipe.num_flips,
                mirrored_from=recipe.mirrored_from,
                device=device,
                on_progress=on_part,
            )
    return scores


def _parameters(model: DiagnosisModel, recipe: DiagnosisRecipe) -> CuttingParameters:
    return CuttingParameters(model.chunk_shape_irc, edge_rule="shift" if recipe.edge_rule == "shift" else "pad")


def _nodules(
    findings: list[Finding], view: AxialView, models: DiagnosisModels, scores: dict[str, NDArray[np.float64]]
) -> tuple[Nodule, ...]:
    """Return the findings as nodules in falling order of probability; ties by the score, then by the position."""
    own = scores["classifier"]
    probabilities = models.classifier.probabilities(own)
    malignancies: list[float] | list[None] = [None] * len(findings)
    if models.malignancy is not None:
        malignancies = models.malignancy.probabilities(scores["malignancy"]).tolist()
    order = sorted(range(len(findings)), key=lambda row: (-probabilities[row], -own[row], findings[row].center_irc))
    return tuple(_nodule(findings[row], view, float(probabilities[row]), malignancies[row]) for row in order)


def _nodule(finding: Finding, view: AxialView, probability: float, malignancy: float | None) -> Nodule:
    last_irc = np.asarray(view.original.size_irc) - 1
    center_irc = np.clip(view.original.nearest_voxel(finding.center_xyz), 0, last_irc)
    start = np.asarray(finding.mask_start_irc)
    corners = view.to_original([start, start + finding.mask.shape - 1])
    return Nodule(
        center_xyz=finding.center_xyz,
        center_irc=_voxel(center_irc),
        diameter_mm=finding.diameter_mm,
        long_axis_mm=finding.long_axis_mm,
        volume_mm3=finding.volume_mm3,
        segmentation_score=finding.score,
        probability=probability,
        malignancy=malignancy,
        mask=np.ascontiguousarray(view.restored(finding.mask)),
        mask_start_irc=_voxel(corners.min(axis=0)),
    )


def _voxel(values: NDArray[np.floating] | NDArray[np.integer]) -> tuple[int, int, int]:
    index, row, col = (int(value) for value in values)
    return index, row, col


def _notes(models: DiagnosisModels, recipe: DiagnosisRecipe, num_findings: int) -> Iterator[str]:
    """Yield what a reader must know of the search and its models."""
    if num_findings >= recipe.max_findings:
        yield (
            f"The limit of {recipe.max_findings} findings was reached: those with lower segmentation scores are left "
            "out."
        )
    for version in models.versions:
        name = f"The {version.role} {version.name} {version.version}"
        if version.has_seen_series:
            yield f"{name} was trained or validated on this series: its results here say nothing about unseen CTs."
        if version.has_unknown_origin:
            yield f"{name} was trained on unknown scans, which may include this one."
