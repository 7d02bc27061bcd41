"""Voxels within the outlines of many readers' marks at once, with no image: all of LIDC-IDRI takes seconds.

A mark holds the voxels strictly within its outlines (LIDC-IDRI's points lie outside the nodule). Outlines of exclusions
take their own points away, too. ``contours`` makes masks of single nodules on a CT's voxels.

Source:
    Measured on LUNA16's tables: docs/how_to/sources/luna16_answer_key.md.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.sources.lidc_database import LidcScan
from luna_pipeline.core.sources.reader_marks import Contour, ReaderMark

MAX_BOX_VOXELS = 10_000_000
"""Limit on ``box_voxels`` of a series' marks, so that they take about 1 GB at most; LIDC-IDRI has up to 731,528."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MarkPlaces:
    """Positions and sizes of marks, one row each, relative to the centre of the scan's first voxel.

    Attributes:
        center_mm: Centre of the voxels, shape (M, 3): column and row from the first voxel in mm, z in the scanner's mm.
        diameter_mm: Diameter of the ball of the voxels' volume, shape (M,); 0 where no voxel is within the outlines.
    """

    center_mm: NDArray[np.float64]
    diameter_mm: NDArray[np.float64]


def mark_places(marks: Sequence[ReaderMark], scans: Mapping[str, LidcScan]) -> MarkPlaces:
    """Return positions and diameters of marks.

    Args:
        marks: Marks of any series.
        scans: The scans of these series; slices are as far apart as the median of their positions.

    Raises:
        ValueError: If a mark has more than ``MAX_BOX_VOXELS``.
    """
    num_voxels, center_crz = measure_voxels(marks)
    spacing_mm = np.array([scans[mark.series_instance_uid].pixel_spacing_mm for mark in marks])
    steps_mm = {uid: slice_step_mm(scan) for uid, scan in scans.items()}
    step_mm = np.array([steps_mm[mark.series_instance_uid] for mark in marks])
    volume_mm3 = num_voxels * spacing_mm**2 * step_mm
    scale = np.stack([spacing_mm, spacing_mm, np.ones(len(marks))], axis=1).reshape(-1, 3)
    return MarkPlaces(center_crz * scale, np.cbrt(6 * volume_mm3 / math.pi))


def slice_step_mm(scan: LidcScan) -> float:
    """Return the distance of slices: the median over the scan, NaN for a single slice."""
    return float(np.median(np.diff(scan.z_mm))) if len(scan.z_mm) > 1 else math.nan


def box_voxels(marks: Sequence[ReaderMark]) -> Integers:
    """Return how many voxels the box around each mark has, in slices with an outline, one for each outline: shape (M,).

    Raises:
        ValueError: If a mark has more than ``MAX_BOX_VOXELS``.
    """
    found = np.zeros(len(marks), dtype=np.int64)
    for number, mark in enumerate(marks):
        points_cr = np.concatenate([contour.points_cr for contour in mark.contours])
        found[number] = len(mark.contours) * np.prod(np.ptp(points_cr, axis=0) + 1)
        check_box_voxels(int(found[number]), mark.series_instance_uid)
    return found


def check_box_voxels(num_voxels: int, series_instance_uid: str) -> None:
    """Check the voxels in boxes around marks of a series.

    Raises:
        ValueError: If there are more than ``MAX_BOX_VOXELS``.
    """
    if num_voxels > MAX_BOX_VOXELS:
        rule = f"Readers' outlines of a series must have at most {MAX_BOX_VOXELS} voxels in the boxes around them"
        raise ValueError(f"{rule}, got {num_voxels} (series {series_instance_uid}). Copy the readers' file again.")


def measure_voxels(marks: Sequence[ReaderMark]) -> tuple[Integers, NDArray[np.float64]]:
    """Return the number of voxels of each mark, shape (M,), and their mean column, row and z in mm, shape (M, 3).

    A mark without voxels has the mean of its outlines' points.

    Raises:
        ValueError: If a mark has more than ``MAX_BOX_VOXELS``.
    """
    if not marks:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 3))
    # Parts of marks whose boxes take at most twice the limit.
    part = np.cumsum(box_voxels(marks)) // MAX_BOX_VOXELS
    bounds = [0, *np.flatnonzero(np.diff(part)) + 1, len(marks)]
    measured = [_measure_part(marks[start:stop]) for start, stop in itertools.pairwise(bounds)]
    return np.concatenate([num for num, _ in measured]), np.concatenate([center for _, center in measured])


def _measure_part(marks: Sequence[ReaderMark]) -> tuple[Integers, NDArray[np.float64]]:
    contours = [contour for mark in marks for contour in mark.contours]
    owner = np.repeat(np.arange(len(marks)), [len(mark.contours) for mark in marks])
    z_mm = np.array([contour.z_mm for contour in contours])
    outline, points_cr, is_border = fill_outlines([contour.points_cr for contour in contours])
    # Outlines of one mark in one slice share a page of voxels.
    starts_page = np.r_[True, (owner[1:] != owner[:-1]) | (z_mm[1:] != z_mm[:-1])]
    page = np.cumsum(starts_page) - 1
    pages = _Pages.of(page[outline], points_cr)
    voxel = pages.voxel(page[outline], points_cr)
    is_inclusion = np.array([contour.is_inclusion for contour in contours])[outline]
    is_inside = np.zeros(pages.num_voxels, dtype=bool)
    is_inside[voxel[is_inclusion & ~is_border]] = True
    is_inside[voxel[~is_inclusion]] = False
    inside_page, inside_cr = pages.place(np.flatnonzero(is_inside))
    at_crz = np.column_stack([inside_cr, z_mm[starts_page][inside_page]])
    num_voxels, sums = _sums(owner[starts_page][inside_page], at_crz, len(marks))
    num_points, point_sums = _sums(*_points(owner, contours), len(marks))
    is_empty = num_voxels == 0
    sums[is_empty], divisor = point_sums[is_empty], np.where(is_empty, num_points, num_voxels)
    return num_voxels, sums / divisor[:, None]


def fill_outlines(outlines: Sequence[Integers]) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Return the voxels within closed polygons and on them.

    Args:
        outlines: Points of each polygon as column and row, shapes (N, 2).

    Returns:
        Number of the polygon, column and row, and whether it is on the polygon, of V voxels, polygon by polygon: shapes
        (V,), (V, 2), (V,). A voxel is within if a line from it crosses the polygon an odd number of times.
    """
    lengths = np.array([len(points) for points in outlines])
    points = np.concatenate(outlines).astype(np.int64)
    polygon = np.repeat(np.arange(len(outlines)), lengths)
    starts = np.cumsum(lengths) - lengths
    low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
    width, height = (high - low + 1).T
    base = np.cumsum(width * height) - width * height
    following = np.arange(len(points)) + 1
    following[starts + lengths - 1] = starts
    start, step = points - low[polygon], points[following] - points

    is_border = np.zeros(int((width * height).sum()), dtype=bool)
    edge, on_edge = _lattice_points(start, step)
    is_border[base[polygon[edge]] + on_edge[:, 1] * width[polygon[edge]] + on_edge[:, 0]] = True
    edge, rows, columns = _crossings(start, step)
    crossed = np.zeros(len(is_border), dtype=np.uint8)
    np.bitwise_xor.at(crossed, base[polygon[edge]] + rows * width[polygon[edge]] + columns, 1)
    # A closed polygon crosses each row an even number of times: the parity is 0 again at the row's end.
    cells = np.flatnonzero(np.bitwise_xor.accumulate(crossed).astype(bool) | is_border)
    of_cell = np.searchsorted(base, cells, side="right") - 1
    row, column = np.divmod(cells - base[of_cell], width[of_cell])
    return of_cell, np.stack([column, row], axis=1) + low[of_cell], is_border[cells]


def _lattice_points(start: Integers, step: Integers) -> tuple[Integers, Integers]:
    """Return edge and place of the voxels on edges, each edge without its end."""
    pieces = np.maximum(np.gcd(*np.abs(step).T), 1)
    edge = np.repeat(np.arange(len(start)), pieces)
    done = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return edge, start[edge] + step[edge] // pieces[edge, None] * done[:, None]


def _crossings(start: Integers, step: Integers) -> tuple[Integers, Integers, Integers]:
    """Return edge, row and next column at or right of each crossing of a row; an edge has its upper end only."""
    heights = np.abs(step[:, 1])
    edge = np.repeat(np.arange(len(start)), heights)
    below = np.arange(len(edge)) - np.repeat(np.cumsum(heights) - heights, heights)
    is_down = step[:, 1] > 0
    upper = np.where(is_down[:, None], start, start + step)
    run = np.where(is_down, step[:, 0], -step[:, 0])
    columns = upper[edge, 0] - (-below * run[edge] // heights[edge])
    return edge, upper[edge, 1] + below, columns


@dataclass(frozen=True, eq=False)
class _Pages:
    """Voxels of all pages, numbered: each page is a box of rows and columns."""

    low_cr: Integers
    width: Integers
    base: Integers
    num_voxels: int

    @classmethod
    def of(cls, page: Integers, points_cr: Integers) -> "_Pages":
        """Return the boxes of voxels whose pages ascend from 0."""
        starts = np.flatnonzero(np.r_[True, page[1:] != page[:-1]])
        low, high = np.minimum.reduceat(points_cr, starts), np.maximum.reduceat(points_cr, starts)
        width, height = (high - low + 1).T
        ends = np.cumsum(width * height)
        return cls(low, width, ends - width * height, int(ends[-1]))

    def voxel(self, page: Integers, points_cr: Integers) -> Integers:
        """Return the number of the voxel at a place of a page."""
        column, row = (points_cr - self.low_cr[page]).T
        return np.asarray(self.base[page] + row * self.width[page] + column)

    def place(self, voxel: Integers) -> tuple[Integers, Integers]:
        """Return page, and column and row, of numbers of voxels."""
        page = np.searchsorted(self.base, voxel, side="right") - 1
        row, column = np.divmod(voxel - self.base[page], self.width[page])
        return page, np.stack([column, row], axis=1) + self.low_cr[page]


def _points(owner: Integers, contours: Sequence[Contour]) -> tuple[Integers, NDArray[np.float64]]:
    """Return mark and place of all points of outlines."""
    lengths = [len(contour.points_cr) for contour in contours]
    z_mm = np.repeat([contour.z_mm for contour in contours], lengths)
    points = np.concatenate([contour.points_cr for contour in contours])
    return np.repeat(owner, lengths), np.column_stack([points, z_mm])


def _sums(group: Integers, values: NDArray[np.float64], num_groups: int) -> tuple[Integers, NDArray[np.float64]]:
    """Return the number of rows and the sum of each column by group."""
    sums = [np.bincount(group, weights=column, minlength=num_groups) for column in values.T]
    return np.bincount(group, minlength=num_groups), np.stack(sums, axis=1)
