"""One reader's outline of one nodule, as LIDC-IDRI has it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_PIXELS = 4096
"""Voxels along a row or column that outlines are read up to; no CT has more."""


@dataclass(frozen=True, eq=False)
class Contour:
    """A closed outline in one slice.

    Attributes:
        z_mm: Position of the slice along z, mm.
        is_inclusion: False for the outline of a part that is not nodule.
        points_cr: Points (N, 2) as column and row, in voxels of the DICOM image. They lie just OUTSIDE the nodule.
        sop_instance_uid: DICOM (0008,0018) of the slice; empty where it is not known.
    """

    z_mm: float
    is_inclusion: bool
    points_cr: NDArray[np.int64]
    sop_instance_uid: str = ""


@dataclass(frozen=True, eq=False)
class ReaderMark:
    """A nodule of 3 mm or more as one reader saw it.

    Attributes:
        series_instance_uid: DICOM (0020,000E).
        mark_id: Number of the mark, unique within the series and source.
        reader: Number of the reader within the series, from 0; -1 where it is not known.
        contours: Outlines, sorted by z, inclusions first.
        ratings: Ratings by the names of ``RATINGS`` (1 to 5; internal_structure 1 to 4, calcification 1 to 6).
    """

    series_instance_uid: str
    mark_id: str
    reader: int
    contours: tuple[Contour, ...]
    ratings: Mapping[str, int]
