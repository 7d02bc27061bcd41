"""Masks of nodules from readers' outlines on a CT's voxels, and what is measured on them.

An outline is a closed polygon through voxel centres of one slice. Its points lie outside the nodule (LIDC-IDRI), so a
mask holds the voxels strictly within it; outlines of exclusions remove the voxels within them and their own points, as
in LUNA16's answer key (``mark_sizes``).

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
from luna_pipeline.core.sources.mark_sizes import fill_outlines
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
    inclusions = [(index, contour) for index, contour in placed if contour.is_inclusion]
    box = _box_of(inclusions, grid)
    if box is None:
        return None
    is_inside = np.zeros(tuple(box.stop - box.start), dtype=bool)
    voxels, is_border, is_inclusion = _filled(placed)
    box.set(is_inside, voxels[is_inclusion & ~is_border], value=True)
    box.set(is_inside, voxels[~is_inclusion], value=False)
    is_points = not is_inside.any()
    if is_points:
        box.set(is_inside, _points(inclusions), value=True)
    if not is_inside.any():
        return None
    offset = (int(box.start[0]), int(box.start[1]), int(box.start[2]))
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
    needed = max(1, math.ceil(share * (num_readers or len(masks))))
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


@dataclass(frozen=True, eq=False)
class _Span:
    """First voxel of a box in the CT, and the one after its last, as index, row, col."""

    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    def set(self, image: Box, voxels_irc: NDArray[np.int64], *, value: bool) -> None:
        """Set those voxels that lie in the box."""
        is_in = ((voxels_irc >= self.start) & (voxels_irc < self.stop)).all(axis=1)
        image[tuple((voxels_irc[is_in] - self.start).T)] = value


def _points(placed: Sequence[tuple[int, Contour]]) -> NDArray[np.int64]:
    """Return the voxels (N, 3) of all points of outlines with their slices."""
    return np.concatenate([np.insert(contour.points_cr[:, ::-1], 0, index, axis=1) for index, contour in placed])


def _filled(
    placed: Sequence[tuple[int, Contour]],
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the voxels (N, 3) in outlines and on them; whether they are on them, and of an inclusion, shapes (N,)."""
    outline, points_cr, is_border = fill_outlines([contour.points_cr for _, contour in placed])
    index = np.array([index for index, _ in placed])[outline]
    is_inclusion = np.array([contour.is_inclusion for _, contour in placed])[outline]
    return np.column_stack([index, points_cr[:, ::-1]]), is_border, is_inclusion


def _box_of(inclusions: Sequence[tuple[int, Contour]], grid: VoxelGrid) -> _Span | None:
    """Return the box around inclusions within the CT, None without one."""
    if not inclusions:
        return None
    points = _points(inclusions)
    start, stop = np.maximum(points.min(axis=0), 0), np.minimum(points.max(axis=0) + 1, grid.size_irc)
    return None if (start >= stop).any() else _Span(start, stop)


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
