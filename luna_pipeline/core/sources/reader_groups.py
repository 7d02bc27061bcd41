"""Rules that put the marks of several readers together into nodules, by name.

``luna16`` is the rule of LUNA16's answer key, ``pylidc`` that of the package ``pylidc``. A rule sees the marks of one
series and returns each mark in exactly one group.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.sources.reader_marks import ReaderMark

_HERE = "luna_pipeline.core.sources.reader_groups"
MAX_READERS = 4
_FACTOR, _MIN_TOLERANCE = 0.9, 0.1

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SeriesMarks:
    """The marks of one series, in the order of the readers' files.

    Attributes:
        center_mm: Centres in mm in any frame whose axes are as those of the CT, shape (M, 3).
        diameter_mm: Diameters of the balls of the marks' volumes, shape (M,).
        sessions: Reading session of each mark (``reading_sessions``).
        marks: The marks; a rule that uses balls alone needs none.
        z_mm: Positions of the CT's slices, ascending; for ``pylidc``.
        slice_thickness_mm: DICOM (0018,0050); for ``pylidc``.
    """

    center_mm: Floats
    diameter_mm: Floats
    sessions: Sequence[int]
    marks: Sequence[ReaderMark] = ()
    z_mm: Floats = field(default_factory=lambda: np.zeros(0))
    slice_thickness_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class NoduleGroup:
    """A nodule as a rule puts it together.

    Attributes:
        marks: Numbers of its marks, in the order in which they were added.
        center_mm: Its centre, shape (3,).
        diameter_mm: Its diameter.
        earlier: Centre and diameter before each later mark was added.
    """

    marks: tuple[int, ...]
    center_mm: Floats
    diameter_mm: float
    earlier: tuple[tuple[Floats, float], ...] = ()


GroupRule: TypeAlias = Callable[[SeriesMarks], list[NoduleGroup]]
GROUP_RULES: Registry[GroupRule] = Registry(
    "rule for readers' marks", {"luna16": f"{_HERE}:group_by_luna16", "pylidc": f"{_HERE}:group_by_pylidc"}
)


def group_by_luna16(series: SeriesMarks) -> list[NoduleGroup]:
    """Put marks together whose balls overlap: nearer than the sum of their radii.

    Sessions are taken from the last to the first, and the marks of a session from the last to the first. A mark is put
    together with each nodule of the sessions before it that it overlaps, in their order: the centre and the diameter
    become the mean of the two, so that the last mark has the weight 1/2, the one before 1/4. A nodule takes one mark of
    a session.

    Source:
        Setio et al., doi:10.1016/j.media.2017.06.015, for the distance; the order and the repeated means are measured
        on LUNA16's tables (docs/how_to/sources/luna16_answer_key.md).
    """
    known: list[NoduleGroup] = []
    for session in sorted(set(series.sessions), reverse=True):
        made = []
        for number in reversed([mark for mark, own in enumerate(series.sessions) if own == session]):
            nodule = NoduleGroup((number,), series.center_mm[number], float(series.diameter_mm[number]))
            left = []
            for other in known:
                away_mm = float(np.linalg.norm(nodule.center_mm - other.center_mm))
                if away_mm < (nodule.diameter_mm + other.diameter_mm) / 2:
                    nodule = _joined(other, nodule)
                else:
                    left.append(other)
            known = left
            made.append(nodule)
        known += made
    return known


def group_by_pylidc(series: SeriesMarks) -> list[NoduleGroup]:
    """Put marks together whose outlines are near, as ``pylidc`` does.

    The distance of two marks is the smallest between points of their outlines, in voxels and slices. Marks at most the
    slice thickness apart (its number of mm, compared with voxels) are connected; while a group has more than four
    marks, the limit is multiplied by 0.9 (not below 0.1). Centres and diameters are means over the marks.

    Source:
        pylidc 0.2.3, ``Scan.cluster_annotations``.
    """
    from scipy.sparse.csgraph import connected_components

    if not series.marks:
        return []
    away = _outline_distances(series)
    limit = series.slice_thickness_mm
    while True:
        _, group = connected_components(away <= limit, directed=False)
        limit *= _FACTOR
        if np.bincount(group).max() <= MAX_READERS or limit < _MIN_TOLERANCE:
            break
    members = [np.flatnonzero(group == number) for number in range(group.max() + 1)]
    return [
        NoduleGroup(tuple(rows.tolist()), series.center_mm[rows].mean(axis=0), float(series.diameter_mm[rows].mean()))
        for rows in members
    ]


def _joined(other: NoduleGroup, nodule: NoduleGroup) -> NoduleGroup:
    """Return the mean of two nodules; ``nodule`` has the newest mark and is not kept among the earlier states."""
    earlier = (*nodule.earlier, *other.earlier, (other.center_mm, other.diameter_mm))
    center_mm = (nodule.center_mm + other.center_mm) / 2
    diameter_mm = (nodule.diameter_mm + other.diameter_mm) / 2
    return NoduleGroup((*other.marks, *nodule.marks), center_mm, diameter_mm, earlier)


def _outline_distances(series: SeriesMarks) -> Floats:
    """Return the smallest distances between the marks' points, shape (M, M); infinite where boxes are far apart."""
    from scipy.spatial import cKDTree

    points = [_points(mark, series.z_mm) for mark in series.marks]
    low = np.array([group.min(axis=0) for group in points])
    high = np.array([group.max(axis=0) for group in points])
    away = np.full((len(points), len(points)), np.inf)
    np.fill_diagonal(away, 0.0)
    trees = [cKDTree(group) for group in points]
    for first in range(len(points)):
        for second in range(first + 1, len(points)):
            gap = np.maximum(np.maximum(low[first] - high[second], low[second] - high[first]), 0)
            if np.linalg.norm(gap) <= series.slice_thickness_mm:
                nearest = np.asarray(trees[first].query(points[second])[0]).min()
                away[first, second] = away[second, first] = nearest
    return away


def _points(mark: ReaderMark, z_mm: Floats) -> Floats:
    """Return the points of a mark as column, row and slice."""
    slices = [int(np.abs(z_mm - contour.z_mm).argmin()) for contour in mark.contours]
    placed = zip(mark.contours, slices, strict=True)
    stacks = [np.insert(contour.points_cr, 2, index, axis=1) for contour, index in placed]
    return np.concatenate(stacks).astype(np.float64)
