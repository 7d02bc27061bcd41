"""Phantom CTs with several findings each, for the viewer."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline_tests.phantoms import write_ct, write_dicom_series

SIZE_IRC = (48, 72, 72)
UPRIGHT, TURNED = 7, 6
"""Patients: 5 findings along the patient's axes; 2 findings, rows to the front and columns to the right."""
UID = "1.2.840.11"


def write_viewed_ct(folder: Path, number: int, *, is_dicom: bool = False) -> tuple[Path, NDArray[np.int16]]:
    """Write ``ct.mha`` or a DICOM series; return its path and its HU (I, R, C)."""
    series = make_series(PhantomConfig(seed=2, number=number, size_irc=SIZE_IRC))
    grid, hounsfield = series.grid, series.hounsfield.clip(-1024)
    place = {"spacing_mm": grid.spacing_mm, "origin_xyz": grid.origin_xyz, "direction": grid.direction}
    if is_dicom:
        return write_dicom_series(folder, f"{UID}.{number}", hounsfield, **place), hounsfield
    return write_ct(folder, "ct", hounsfield, suffix=".mha", **place), hounsfield
