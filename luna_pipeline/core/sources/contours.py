"""Masks of nodules from readers' outlines on a CT's voxels, and what is measured on them.

An outline is a closed polygon through voxel centres of one slice. Its points lie outside the nodule (LIDC-IDRI), so a
mask holds the voxels strictly within it; outlines of exclusions remove the voxels strictly within them. Voxels that an
outline winds around twice are inside.

Source:
    Armato et al., Medical Physics 38 (2011) 915-931, doi:10.1118/1.3528204, and its authors' statement in pylidc #15:
    an outline is drawn through the first voxels outside the nodule.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.sources.reader_marks import Contour

SLICE_TOLERANCE = 0.51
"""Distance between an outline and its slice, at most, as a part of the slices' distance: half, and rounding."""

Box = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class NoduleMask:
    """Voxels of a nodule in a box of the CT.

    Attributes:
        is_inside: Shape (I, R, C) of the box.
        offset_irc: Voxel of the CT at the box's first voxel.
        num_without_slice: Outlines that lie at no slice of the CT; they are not in the mask.
        is_points: Whether the outlines enclose no voxel, so that the voxels of their points are the mask.
    """

    is_inside: Box
    offset_irc: tuple[int, int, int]
    num_without_slice: int = 0
    is_points: bool = False

    @property
    def num_voxels(self) -> int:
        """Number of voxels inside."""
        return int(np.count_nonzero(self.is_inside))


@dataclass(frozen=True)
class NoduleSize:
    """Measures of a mask.

    Attributes:
        center_xyz: Centre of the volume, world LPS mm.
        volume_mm3: Volume of the voxels.
        diameter_mm: Diameter of the ball of that volume.
        longest_axial_mm: Longest distance in one slice between the outer borders of two voxels: that of their centres
            and one voxel.
    """

    center_xyz: tuple[float, float, float]
    volume_mm3: float
    diameter_mm: float
    longest_axial_mm: float


def slices_at(z_mm: ArrayLike, grid: VoxelGrid) -> NDArray[np.int64]:
    """Return the slice of each z in mm, shape (N,); -1 where no slice is near enough (``SLICE_TOLERANCE``).

    The z of a slice is that of its first voxel, DICOM (0020,0032), which also holds for oblique and descending slices.
    """
    first = np.zeros((grid.size_irc[0], 3))
    first[:, 0] = np.arange(len(first))
    slices_mm = grid.voxel_to_world(first)[:, 2]
    step_mm = abs(float(slices_mm[1] - slices_mm[0])) if len(slices_mm) > 1 else grid.spacing_mm[2]
    away_mm = np.abs(np.asarray(z_mm, dtype=np.float64)[:, None] - slices_mm)
    nearest = away_mm.argmin(axis=1)
    return np.where(away_mm.min(axis=1) <= SLICE_TOLERANCE * step_mm, nearest, -1)


def mask_of_contours(contours: Sequence[Contour], grid: VoxelGrid) -> NoduleMask | None:
    """Return the voxels of a nodule from the outlines of one reader.

    Args:
        contours: Outlines in any order, several in one slice too. Those of one or two points enclose no voxel; if none
            encloses any, the mask is the voxels of all points of inclusions.
        grid: The CT's voxels; parts outside are cut off.

    Returns:
        The mask; None if nothing of it lies in the CT.
    """
    slices = slices_at([contour.z_mm for contour in contours], grid)
    placed = [(int(index), contour) for index, contour in zip(slices, contours, strict=True) if index >= 0]
    box = _box_of([(index, contour) for index, contour in placed if contour.is_inclusion], grid)
    if box is None:
        return None
    start, stop = box
    is_inside = np.zeros(tuple(stop - start), dtype=bool)
    for index, contour in sorted(placed, key=lambda item: not item[1].is_inclusion):
        if start[0] <= index < stop[0]:
            _draw(is_inside[index - start[0]], contour, offset_rc=start[1:])
    is_points = not is_inside.any()
    if is_points:
        for index, contour in placed:
            if contour.is_inclusion:
                _draw_points(is_inside[index - start[0]], contour.points_cr[:, ::-1] - start[1:])
    if not is_inside.any():
        return None
    offset = (int(start[0]), int(start[1]), int(start[2]))
    return NoduleMask(is_inside, offset, int((slices < 0).sum()), is_points)


def consensus_mask(masks: Sequence[NoduleMask], *, share: float = 0.5, num_readers: int | None = None) -> NoduleMask:
    """Return the voxels that at least a share of the readers marked.

    Args:
        masks: Masks of one nodule, one per reader, at least one.
        share: Share of the readers, above 0 to 1.
        num_readers: Readers that the share is of; None for those with a mask.
    """
    starts = np.array([mask.offset_irc for mask in masks])
    stops = starts + [mask.is_inside.shape for mask in masks]
    start, stop = starts.min(axis=0), stops.max(axis=0)
    votes = np.zeros(tuple(stop - start), dtype=np.int64)
    for mask, first in zip(masks, starts - start, strict=True):
        votes[tuple(slice(at, at + size) for at, size in zip(first, mask.is_inside.shape, strict=True))] += (
            mask.is_inside
        )
    # 0.75 of 4 readers are 3, also where the product is a little more in binary.
    needed = max(1, math.ceil(share * (num_readers or len(masks)) - 1e-9))
    return NoduleMask(votes >= needed, (int(start[0]), int(start[1]), int(start[2])))


def measure(mask: NoduleMask, grid: VoxelGrid) -> NoduleSize:
    """Return position and size of a mask that has a voxel."""
    voxels_irc = np.argwhere(mask.is_inside) + mask.offset_irc
    volume_mm3 = len(voxels_irc) * float(np.prod(grid.spacing_mm))
    x, y, z = (float(value) for value in grid.voxel_to_world(voxels_irc.mean(axis=0)))
    return NoduleSize((x, y, z), volume_mm3, ball_diameter_mm(volume_mm3), _longest_axial_mm(mask.is_inside, grid))


def ball_diameter_mm(volume_mm3: float) -> float:
    """Return the diameter in mm of the ball of a volume in mm3."""
    return math.cbrt(6 * volume_mm3 / math.pi)


def ball_mask(center_xyz: Sequence[float], diameter_mm: float, grid: VoxelGrid) -> NoduleMask:
    """Return the voxels of a CT whose centres lie within a ball; its box may be empty of them."""
    middle = grid.nearest_voxel(center_xyz)
    reach = np.ceil(diameter_mm / 2 / grid.spacing_irc).astype(int) + 1
    start = np.clip(middle - reach, 0, np.asarray(grid.size_irc) - 1)
    stop = np.clip(middle + reach + 1, start + 1, grid.size_irc)
    voxels = np.stack(np.meshgrid(*map(np.arange, start, stop), indexing="ij"), axis=-1)
    away_mm = np.linalg.norm(grid.voxel_to_world(voxels) - np.asarray(center_xyz), axis=-1)
    return NoduleMask(away_mm <= diameter_mm / 2, (int(start[0]), int(start[1]), int(start[2])))


def dice(first: NoduleMask, second: NoduleMask) -> float:
    """Return twice the common voxels by the sum of the voxels of both masks; 0 if neither has any."""
    common = consensus_mask([first, second], share=1.0).num_voxels
    return 2 * common / max(1, first.num_voxels + second.num_voxels)


def filled(points_rc: NDArray[np.int64], shape_rc: tuple[int, int]) -> Box:
    """Return the pixels of an image, shape (R, C), strictly within a closed polygon through points (N, 2)."""
    start, end = points_rc, np.roll(points_rc, -1, axis=0)
    winding = np.zeros((shape_rc[0], shape_rc[1] + 1), dtype=np.int64)
    is_border = np.zeros(shape_rc, dtype=bool)
    _draw_points(is_border, points_rc)
    # A crossing of a row to the left of a pixel turns around it, down or up; each edge has its upper end only.
    rows, columns, turns, is_whole = _crossings(start, end)
    is_row = (rows >= 0) & (rows < shape_rc[0])
    left = np.clip(columns, 0, shape_rc[1])
    np.add.at(winding, (rows[is_row], left[is_row]), turns[is_row])
    on_edge = is_whole & is_row & (columns >= 0) & (columns < shape_rc[1])
    is_border[rows[on_edge], columns[on_edge]] = True
    for (row, first), (_, last) in zip(*_level(start, end), strict=True):
        if 0 <= row < shape_rc[0]:
            is_border[row, max(0, min(first, last)) : max(0, max(first, last) + 1)] = True
    return np.asarray((np.cumsum(winding, axis=1)[:, :-1] != 0) & ~is_border)


def _crossings(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Return row, next column at or right of the crossing, direction, and whether it is at a pixel's centre."""
    is_down = end[:, 0] > start[:, 0]
    upper, lower = np.where(is_down[:, None], start, end), np.where(is_down[:, None], end, start)
    heights = lower[:, 0] - upper[:, 0]
    edge = np.repeat(np.arange(len(start)), heights)
    below = np.arange(len(edge)) - np.repeat(np.cumsum(heights) - heights, heights)
    run = below * (lower - upper)[edge, 1]
    columns = upper[edge, 1] - (-run // heights[edge])
    return upper[edge, 0] + below, columns, np.where(is_down[edge], 1, -1), run % heights[edge] == 0


def _level(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    is_level = start[:, 0] == end[:, 0]
    return start[is_level], end[is_level]


def _box_of(
    placed: Sequence[tuple[int, Contour]], grid: VoxelGrid
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return first voxel and end of the box of inclusions within the CT, None without one."""
    if not placed:
        return None
    points = np.concatenate(
        [np.insert(contour.points_cr[:, ::-1], 0, index, axis=1) for index, contour in placed], axis=0
    )
    start, stop = np.maximum(points.min(axis=0), 0), np.minimum(points.max(axis=0) + 1, grid.size_irc)
    return None if (start >= stop).any() else (start, stop)


def _draw(is_inside: Box, contour: Contour, *, offset_rc: NDArray[np.int64]) -> None:
    """Add an inclusion to a slice of the box, or remove an exclusion."""
    within = filled(contour.points_cr[:, ::-1] - offset_rc, (is_inside.shape[0], is_inside.shape[1]))
    is_inside[within] = contour.is_inclusion


def _draw_points(image: Box, points_rc: NDArray[np.int64]) -> None:
    is_in = ((points_rc >= 0) & (points_rc < image.shape)).all(axis=1)
    image[points_rc[is_in, 0], points_rc[is_in, 1]] = True


def _longest_axial_mm(is_inside: Box, grid: VoxelGrid) -> float:
    step_mm = grid.spacing_irc[1:]
    longest = 0.0
    for image in is_inside:
        rows = np.flatnonzero(image.any(axis=1))
        if not len(rows):
            continue
        # The farthest voxels are the first or last ones of their rows.
        first, last = image[rows].argmax(axis=1), image.shape[1] - 1 - image[rows, ::-1].argmax(axis=1)
        ends_mm = np.concatenate([np.stack([rows, first], axis=1), np.stack([rows, last], axis=1)]) * step_mm
        longest = max(longest, float(np.linalg.norm(ends_mm[:, None] - ends_mm, axis=-1).max()))
    return longest + float(step_mm.mean())
