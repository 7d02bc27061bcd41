"""What the grid of a scan says: spacing, field of view, order and tilt of its axes, missing slices."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from luna_pipeline.core.ct.formats.dicom_series import is_dicom_file, scan_dicom_files
from luna_pipeline.core.ct.formats.dicom_slices import DicomSlice
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.storage.regular_files import is_regular

_PLANES = ("axial", "coronal", "sagittal")
# Letters of the world's axes x, y, z where an axis runs along them (LPS), and against them.
_ALONG, _AGAINST = "LPS", "RAI"
# A gap so many times the usual one lacks a slice; smaller ones are uneven spacing, which the reader refuses, too.
_GAP_RATIO = 1.5


def geometry_facts(grid: VoxelGrid) -> dict[str, Any]:
    """Return the facts of a grid.

    Returns:
        ``num_slices``, ``num_rows``, ``num_cols`` of the axial view; ``slice_spacing_mm``, ``pixel_spacing_mm`` (the
        larger of the two in the slice), ``field_of_view_mm`` (the wider side), ``coverage_mm`` (from the first to the
        last slice, one spacing included); ``plane`` of the slices as stored; ``axes``: the directions of the stored
        col, row and index, ``LPS`` where they run to the left, back and head; ``tilt_deg``: largest angle of an axis
        with the patient's.
    """
    view = AxialView(grid)
    axial = view.grid
    x_mm, y_mm, z_mm = axial.spacing_mm
    num_slices, num_rows, num_cols = axial.size_irc
    cosines = np.clip(np.diag(np.asarray(axial.direction).reshape(3, 3)), -1.0, 1.0)
    return {
        "num_slices": num_slices,
        "num_rows": num_rows,
        "num_cols": num_cols,
        "slice_spacing_mm": z_mm,
        "pixel_spacing_mm": max(x_mm, y_mm),
        "field_of_view_mm": max(num_cols * x_mm, num_rows * y_mm),
        "coverage_mm": num_slices * z_mm,
        # The stored slices are perpendicular to the stored index, axis 0 of the array.
        "plane": _PLANES[view.axes.index(0)],
        "axes": _letters(view),
        "tilt_deg": round(math.degrees(math.acos(float(cosines.min()))), 4),
    }


def _letters(view: AxialView) -> str:
    """Return the letter of the stored col, row and index, in this order."""
    letters = {}
    for at, axis in enumerate(view.axes):
        world = 2 - at
        letters[axis] = (_AGAINST if view.is_flipped[at] else _ALONG)[world]
    return "".join(letters[axis] for axis in (2, 1, 0))


def missing_slices(folder: Path) -> dict[str, int | None]:
    """Return how many slices each DICOM series lacks between its first and last, by their positions.

    Args:
        folder: Folder with its files.

    Returns:
        Number by series uid: None where positions do not say it: damaged or unequal slices, fewer than three, or two at
        one position.
    """
    paths = (path for path in folder.iterdir() if is_regular(path) and is_dicom_file(path))
    return {
        uid: None if found.broken or any(item.fault for item in found.slices) else _num_missing(found.slices)
        for uid, found in scan_dicom_files(paths).items()
    }


def _num_missing(slices: list[DicomSlice]) -> int | None:
    if len(slices) < 3:
        return None
    orientation = np.asarray(slices[0].orientation, dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    gaps_mm = np.diff(np.sort(np.asarray([item.position_xyz for item in slices]) @ normal))
    usual_mm = float(np.median(gaps_mm))
    if usual_mm <= 0 or gaps_mm.min() <= 0:
        return None
    ratios = gaps_mm / usual_mm
    return int(np.rint(ratios[ratios > _GAP_RATIO] - 1).sum())
