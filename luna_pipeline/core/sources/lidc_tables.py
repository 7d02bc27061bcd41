"""Tables of LIDC-IDRI in world mm, from the readers' marks on the CTs' voxels."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.sources.contours import NoduleMask, NoduleSize, mask_of_contours, measure, slices_at
from luna_pipeline.core.sources.lidc_xml import SeriesReading
from luna_pipeline.core.sources.mark_sizes import box_voxels, check_box_voxels
from luna_pipeline.core.sources.reader_groups import SeriesMarks, group_by_luna16
from luna_pipeline.core.sources.reader_marks import ReaderMark
from luna_pipeline.core.sources.reading_sessions import reading_sessions
from luna_pipeline.core.sources.source import (
    NODULE_COLUMNS,
    RATED_COLUMNS,
    RATINGS,
    READER_COLUMNS,
    UNKNOWN_DIAMETER_MM,
    SourceTables,
)

MIN_READERS = 3
"""Readers of a nodule of the reference, as in LUNA16; a nodule by fewer is an excluded finding."""


@dataclass(frozen=True, eq=False)
class PlacedMark:
    """A reader's mark on the CT's voxels."""

    mark: ReaderMark
    mask: NoduleMask
    size: NoduleSize


@dataclass(frozen=True, eq=False)
class ReadNodule:
    """A nodule as several readers marked it.

    Attributes:
        center_xyz: Centre by LUNA16's rule, world LPS mm.
        diameter_mm: Diameter by the same rule.
        marks: The readers' marks, one each unless a mark joins two of another reader.
    """

    center_xyz: tuple[float, float, float]
    diameter_mm: float
    marks: tuple[PlacedMark, ...]

    @property
    def num_readers(self) -> int:
        """Number of readers as LUNA16 counts them: the marks."""
        return len(self.marks)


def placed_marks(reading: SeriesReading, grid: VoxelGrid) -> list[PlacedMark]:
    """Return the marks of a series of which a voxel lies in the CT.

    Raises:
        ValueError: If the boxes around the marks have more than ``MAX_BOX_VOXELS``.
    """
    placed = []
    num_voxels = int(box_voxels(reading.nodules).sum())
    check_box_voxels(num_voxels, reading.series_instance_uid)
    for mark in reading.nodules:
        mask = mask_of_contours(mark.contours, grid)
        if mask is not None:
            # With the slices between the outlines, too.
            num_voxels += mask.is_inside.size
            check_box_voxels(num_voxels, reading.series_instance_uid)
            placed.append(PlacedMark(mark, mask, measure(mask, grid)))
    return placed


def lidc_tables(readings: Mapping[str, SeriesReading], grids: Mapping[str, VoxelGrid]) -> SourceTables:
    """Return the tables of all series with a reading.

    Args:
        readings: What the readers marked, by series.
        grids: Voxels of the CT, by series; one for each reading.
    """
    rows = _Rows()
    for uid, reading in sorted(readings.items()):
        rows.add(reading, grids[uid])
    return SourceTables(
        annotations=pd.DataFrame(rows.annotations, columns=list(NODULE_COLUMNS)),
        excluded=pd.DataFrame(rows.excluded, columns=list(NODULE_COLUMNS)),
        ratings=pd.DataFrame(rows.rated, columns=list(RATED_COLUMNS)).astype({"is_malignant": "boolean"}),
        readers=pd.DataFrame(rows.readers, columns=list(READER_COLUMNS)).astype(dict.fromkeys(RATINGS, "Int8")),
        notes=tuple(rows.notes()),
    )


@dataclass
class _Rows:
    """Rows of the tables, and counts for the notes."""

    annotations: list[tuple[object, ...]] = field(default_factory=list)
    excluded: list[tuple[object, ...]] = field(default_factory=list)
    rated: list[tuple[object, ...]] = field(default_factory=list)
    readers: list[tuple[object, ...]] = field(default_factory=list)
    num_by: Counter[int] = field(default_factory=Counter)
    odd: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)

    def add(self, reading: SeriesReading, grid: VoxelGrid) -> None:
        """Add the rows of one series."""
        uid = reading.series_instance_uid
        placed = placed_marks(reading, grid)
        self.odd["readers' nodules outside of their CT, left out"] += len(reading.nodules) - len(placed)
        self.odd["outlines at no slice of their CT, left out"] += sum(it.mask.num_without_slice for it in placed)
        self.odd["readers' nodules of points that enclose no voxel"] += sum(it.mask.is_points for it in placed)
        for number, nodule in enumerate(nodules_of(placed, reading.names)):
            self.num_by[nodule.num_readers] += 1
            row = (uid, *nodule.center_xyz, nodule.diameter_mm)
            if nodule.num_readers >= MIN_READERS:
                malignancy = [it.mark.ratings["malignancy"] for it in nodule.marks if "malignancy" in it.mark.ratings]
                self.annotations.append(row)
                self.rated.append((*row, pd.NA, malignancy))
            else:
                self.excluded.append(row)
            self.readers += [_reader_row(uid, number, it) for it in nodule.marks]
        self.excluded += self._points(reading, grid)

    def _points(self, reading: SeriesReading, grid: VoxelGrid) -> Iterator[tuple[object, ...]]:
        slices = slices_at([point.z_mm for point in reading.points], grid)
        for index, point in zip(slices.tolist(), reading.points, strict=True):
            column, row = point.point_cr
            if index < 0:
                self.odd["points at no slice of their CT, left out"] += 1
                continue
            self.points[point.kind] += 1
            x, y, z = (float(value) for value in grid.voxel_to_world((index, row, column)))
            yield reading.series_instance_uid, x, y, z, UNKNOWN_DIAMETER_MM

    def notes(self) -> Iterator[str]:
        """Yield the counts in words."""
        at_least = [sum(count for by, count in self.num_by.items() if by >= least) for least in range(1, 5)]
        counts = " / ".join(str(count) for count in at_least)
        yield f"Nodules of 3 mm or more by at least 1 / 2 / 3 / 4 readers: {counts}."
        yield (
            f"Excluded findings: {len(self.excluded)} ({at_least[0] - at_least[MIN_READERS - 1]} nodules by fewer than "
            f"{MIN_READERS} readers, {self.points['small nodule']} marks of nodules below 3 mm, "
            f"{self.points['non-nodule']} marks of non-nodules)."
        )
        for text, count in sorted(self.odd.items()):
            if count:
                yield f"Warning: {count} {text}."


def _reader_row(uid: str, number: int, placed: PlacedMark) -> tuple[object, ...]:
    size, mark = placed.size, placed.mark
    ratings = [mark.ratings.get(name, pd.NA) for name in RATINGS]
    place = (uid, *size.center_xyz, size.diameter_mm, number, mark.reader)
    return (*place, size.longest_axial_mm, size.volume_mm3, *ratings)


def nodules_of(placed: Sequence[PlacedMark], names: Mapping[str, str]) -> list[ReadNodule]:
    """Put the marks of a series together by LUNA16's rule, sorted by z.

    Args:
        placed: Marks in the order of the readers' file.
        names: Names of the marks in that file by mark id, for marks whose reader is not known.
    """
    marks = [it.mark for it in placed]
    center_mm = np.array([it.size.center_xyz for it in placed]).reshape(-1, 3)
    diameter_mm = np.array([it.size.diameter_mm for it in placed])
    sessions = reading_sessions(marks, [names.get(mark.mark_id, "") for mark in marks], center_mm, diameter_mm)
    groups = group_by_luna16(SeriesMarks(center_mm, diameter_mm, sessions, marks))
    nodules = []
    for group in groups:
        x, y, z = (float(value) for value in group.center_mm)
        own = tuple(placed[number] for number in sorted(group.marks))
        nodules.append(ReadNodule((x, y, z), group.diameter_mm, own))
    return sorted(nodules, key=lambda nodule: nodule.center_xyz[::-1])
