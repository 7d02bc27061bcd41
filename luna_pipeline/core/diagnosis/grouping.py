"""Groups the voxels of a segmentation into findings with centre, size and score."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.diagnosis.recipes import DiagnosisRecipe

Box = tuple[slice, slice, slice]
Labels: TypeAlias = NDArray[np.uint16] | NDArray[np.int32]
_LIGHTEST_HU, _DENSEST_HU = -1000, 1000
# The longest axis is searched along so many directions: it is found within 0.01 %.
_NUM_DIRECTIONS = 180


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Finding:
    """A connected part of a segmentation, or several near ones; voxels are those of the axial view.

    Attributes:
        center_irc: Centre of mass, a voxel with fractions.
        center_xyz: Centre of mass in world mm.
        diameter_mm: Diameter of the ball of equal volume.
        long_axis_mm: Longest distance within an axial slice.
        volume_mm3: Volume of the voxels.
        score: Largest score of the voxels.
        mask: Voxels within a box, bool (I, R, C).
        mask_start_irc: First voxel of the box.
    """

    center_irc: tuple[float, float, float]
    center_xyz: tuple[float, float, float]
    diameter_mm: float
    long_axis_mm: float
    volume_mm3: float
    score: float
    mask: NDArray[np.bool_]
    mask_start_irc: tuple[int, int, int]


@dataclass(frozen=True, eq=False, slots=True)
class _Sums:
    """Sums over the voxels of each label, from 0, the background."""

    num_voxels: NDArray[np.int64]
    center_irc: NDArray[np.float64]
    score: NDArray[np.float32]


def group(
    scores: NDArray[np.float32],
    *,
    box: Box,
    grid_axial: VoxelGrid,
    recipe: DiagnosisRecipe,
    hounsfield_axial: NDArray[np.int16] | None = None,
) -> list[Finding]:
    """Return the findings of a segmentation, those with the highest scores first, at most ``recipe.max_findings``.

    Voxels with a score above the threshold are eroded, and joined to components of voxels that share a face. Components
    whose voxels have a gap of at most ``recipe.merge_mm`` are one finding.

    Args:
        scores: Scores in [0, 1] of the searched box, (I, R, C).
        box: The searched box in the axial view.
        grid_axial: Grid of the axial view.
        recipe: Threshold, erosions, merging and limits.
        hounsfield_axial: HU of the axial view, (I, R, C); needed where the recipe has ``centers_by_density``.

    Raises:
        ValueError: If the scores are not those of the box, or the HU are needed and missing.

    Source:
        Erosion, components, centres by density: "Deep Learning with PyTorch" (Stevens, Antiga, Viehmann), chapter 14.
    """
    start_irc = np.asarray([part.start for part in box])
    hounsfield = _checked_hounsfield(scores, box, hounsfield_axial if recipe.centers_by_density else None, recipe)
    labels, num_labels = _labels(scores, recipe)
    if recipe.merge_mm > 0 and num_labels > 1:
        num_labels = _merge(labels, num_labels, spacing_irc=grid_axial.spacing_irc, merge_mm=recipe.merge_mm)
    if num_labels == 0:
        return []
    sums = _sums(labels, scores, hounsfield, num_labels)
    volumes_mm3 = sums.num_voxels * float(np.prod(grid_axial.spacing_mm))
    diameters_mm = np.cbrt(6.0 * volumes_mm3 / math.pi)
    centers_irc = sums.center_irc + start_irc
    centers_xyz = grid_axial.voxel_to_world(centers_irc)
    kept = _strongest(sums.score, is_candidate=diameters_mm >= recipe.min_diameter_mm, limit=recipe.max_findings)
    boxes = ndimage.find_objects(labels)
    spacing_mm = grid_axial.spacing_mm
    findings = []
    for label in kept.tolist():
        own = boxes[label - 1]
        mask = labels[own] == label
        index, row, col = (int(first + part.start) for first, part in zip(start_irc, own, strict=True))
        findings.append(
            Finding(
                center_irc=_triple(centers_irc[label]),
                center_xyz=_triple(centers_xyz[label]),
                diameter_mm=float(diameters_mm[label]),
                long_axis_mm=long_axis_mm(mask, row_mm=spacing_mm[1], col_mm=spacing_mm[0]),
                volume_mm3=float(volumes_mm3[label]),
                score=float(sums.score[label]),
                mask=mask,
                mask_start_irc=(index, row, col),
            )
        )
    return findings


def long_axis_mm(mask: NDArray[np.bool_], *, row_mm: float, col_mm: float) -> float:
    """Return the longest distance between two points of an outline within a slice.

    Args:
        mask: Voxels (I, R, C).
        row_mm: Distance of neighbouring rows.
        col_mm: Distance of neighbouring columns.
    """
    angles = np.arange(_NUM_DIRECTIONS) * (math.pi / _NUM_DIRECTIONS)
    sin, cos = np.sin(angles), np.cos(angles)
    longest = 0.0
    for voxels in mask:
        rows = np.flatnonzero(voxels.any(axis=1))
        if not len(rows):
            continue
        first = voxels[rows].argmax(axis=1)
        last = voxels.shape[1] - 1 - voxels[rows, ::-1].argmax(axis=1)
        # The outline passes halfway between a voxel of the finding and one that is not; the ends of rows hold its hull.
        row_mm_of = np.concatenate([rows, rows, *[rows - 0.5, rows + 0.5] * 2]) * row_mm
        col_mm_of = np.concatenate([first - 0.5, last + 0.5, first, first, last, last]) * col_mm
        along = row_mm_of[:, None] * sin + col_mm_of[:, None] * cos
        longest = max(longest, float(np.ptp(along, axis=0).max()))
    return longest


def _checked_hounsfield(
    scores: NDArray[np.float32], box: Box, hounsfield: NDArray[np.int16] | None, recipe: DiagnosisRecipe
) -> NDArray[np.int16] | None:
    """Return the HU of the box, None where they are not needed."""
    sizes = tuple(part.stop - part.start for part in box)
    if scores.shape != sizes:
        msg = f"Scores must be those of the searched box {sizes}, got {scores.shape}. Segment the box."
        raise ValueError(msg)
    if not recipe.centers_by_density:
        return None
    if hounsfield is None:
        msg = f"Centres by density need the HU of the CT, got none (recipe {recipe.name}). Hand over hounsfield_axial."
        raise ValueError(msg)
    return hounsfield[box]


def _labels(scores: NDArray[np.float32], recipe: DiagnosisRecipe) -> tuple[Labels, int]:
    """Return the number of the component of each voxel, from 1, and their number; 0 is background."""
    mask = scores > recipe.segmentation_threshold
    if recipe.erosion_voxels:
        mask = ndimage.binary_erosion(mask, iterations=recipe.erosion_voxels)
    # Half the memory; at the peak of a diagnosis scores and labels of a whole CT are in memory.
    labels: Labels = np.empty(mask.shape, dtype=np.uint16)
    try:
        return labels, int(ndimage.label(mask, output=labels))  # type: ignore[arg-type]
    except RuntimeError:
        del labels
    wide = np.empty(mask.shape, dtype=np.int32)
    return wide, int(ndimage.label(mask, output=wide))


def _merge(labels: Labels, num_labels: int, *, spacing_irc: NDArray[np.float64], merge_mm: float) -> int:
    """Give near components one label, in place, and return the new number of labels."""
    surface = _surface(labels)
    flat, strides = labels.reshape(-1), np.cumprod([1, *labels.shape[:0:-1]])[::-1]
    places = surface @ strides
    own = flat[places]
    pairs: list[Labels] = []
    for offset in _offsets(spacing_irc, merge_mm):
        is_inside = np.ones(len(surface), dtype=bool)
        for axis, (step, size) in enumerate(zip(offset.tolist(), labels.shape, strict=True)):
            if step:
                is_inside &= surface[:, axis] < size - step if step > 0 else surface[:, axis] >= -step
        there = flat[(places + offset @ strides)[is_inside]]
        is_other = (there != 0) & (there != own[is_inside])
        if is_other.any():
            here = own[is_inside][is_other]
            pairs.append(np.unique(np.stack([here, there[is_other]]), axis=1))
    if not pairs:
        return num_labels
    first, second = np.concatenate(pairs, axis=1)
    links = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(num_labels + 1, num_labels + 1))
    num_groups, group_of = connected_components(links, directed=False)
    # scipy numbers groups by their first member: the background stays 0, the others keep their order.
    group_of = group_of.astype(labels.dtype)
    for voxels in labels:
        voxels[...] = group_of[voxels]
    return int(num_groups) - 1


def _surface(labels: Labels) -> NDArray[np.int32]:
    """Return the voxels (N, 3) of components that share a face with the background or lie at the border.

    The nearest voxels of two components are among them.
    """
    found = []
    for index in range(len(labels)):
        is_inner = labels[index] > 0
        is_border = index in (0, len(labels) - 1)
        for axis in (0, 1):
            for shift in (1, -1):
                is_inner[_without_end(axis, shift)] &= labels[index][_without_end(axis, -shift)] > 0
                is_inner[_end(axis, shift)] = False
        if is_border:
            is_inner[...] = False
        else:
            is_inner &= (labels[index - 1] > 0) & (labels[index + 1] > 0)
        rows, cols = np.nonzero((labels[index] > 0) & ~is_inner)
        found.append(np.stack([np.full_like(rows, index), rows, cols], axis=1).astype(np.int32))
    return np.concatenate(found)


def _without_end(axis: int, shift: int) -> tuple[slice, ...]:
    part = slice(1, None) if shift > 0 else slice(None, -1)
    return (part, slice(None)) if axis == 0 else (slice(None), part)


def _end(axis: int, shift: int) -> tuple[slice, ...]:
    part = slice(0, 1) if shift > 0 else slice(-1, None)
    return (part, slice(None)) if axis == 0 else (slice(None), part)


def _offsets(spacing_irc: NDArray[np.float64], merge_mm: float) -> Iterator[NDArray[np.int32]]:
    """Yield the steps from a voxel to those behind a gap of at most ``merge_mm``, one of each step and its opposite."""
    reach = [int(merge_mm / spacing) + 1 for spacing in spacing_irc]
    for step in np.ndindex(*(2 * count + 1 for count in reach)):
        offset = np.asarray(step) - reach
        gap_mm = np.maximum(np.abs(offset) - 1, 0) * spacing_irc
        if tuple(offset) > (0, 0, 0) and math.sqrt(float((gap_mm**2).sum())) <= merge_mm:
            yield offset.astype(np.int32)


def _sums(labels: Labels, scores: NDArray[np.float32], hounsfield: NDArray[np.int16] | None, num_labels: int) -> _Sums:
    """Add up slice by slice: arrays of whole-CT size would take several times the CT's memory."""
    size = num_labels + 1
    num_voxels = np.zeros(size, dtype=np.int64)
    weights, sums = np.zeros(size), np.zeros((size, 3))
    best = np.zeros(size, dtype=np.float32)
    for index, voxels in enumerate(labels):
        rows, cols = np.nonzero(voxels)
        if not len(rows):
            continue
        label = voxels[rows, cols]
        weight = np.ones(len(rows)) if hounsfield is None else _densities(hounsfield[index][rows, cols])
        num_voxels += np.bincount(label, minlength=size)
        in_slice = np.bincount(label, weights=weight, minlength=size)
        weights += in_slice
        sums[:, 0] += index * in_slice
        sums[:, 1] += np.bincount(label, weights=weight * rows, minlength=size)
        sums[:, 2] += np.bincount(label, weights=weight * cols, minlength=size)
        np.maximum.at(best, label, scores[index][rows, cols])
    return _Sums(num_voxels, sums / np.maximum(weights, 1.0)[:, None], best)


def _densities(hounsfield: NDArray[np.int16]) -> NDArray[np.float64]:
    return np.clip(hounsfield, _LIGHTEST_HU, _DENSEST_HU).astype(np.float64) + (1 - _LIGHTEST_HU)


def _strongest(scores: NDArray[np.float32], *, is_candidate: NDArray[np.bool_], limit: int) -> NDArray[np.int64]:
    """Return the labels with the highest scores in falling order; the background is none."""
    labels = np.flatnonzero(is_candidate)
    labels = labels[labels > 0]
    return labels[np.argsort(-scores[labels], kind="stable")][:limit]


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = values.tolist()
    return first, second, third
