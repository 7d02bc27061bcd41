"""Positions with few decimals: the rounding of the text is no missing slice, and a missing slice is no rounding."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from luna_pipeline.core.ct.reading import UnreadableCtError, open_ct
from luna_pipeline_tests.phantoms import random_hounsfield, write_dicom_series


def write_rounded(folder: Path, *, gap_mm: float, decimals: int, missing: int | None = None) -> None:
    """Write 40 slices whose z is rounded; x and y keep their six decimals."""
    origin_xyz = (-14.595865, -20.285728, -200.0)
    write_dicom_series(
        folder, "1.2.3", random_hounsfield((40, 8, 10)), origin_xyz=origin_xyz, spacing_mm=(1, 1, gap_mm)
    )
    for number, path in enumerate(sorted(folder.glob("*.dcm"), reverse=True)):
        dataset = pydicom.dcmread(path)
        x_mm, y_mm, _ = dataset.ImagePositionPatient
        # Half up, as scanners round.
        z_mm = np.floor((-200.0 + number * gap_mm) * 10**decimals + 0.5 + 1e-9) / 10**decimals
        dataset.ImagePositionPatient = [x_mm, y_mm, f"{z_mm:.{decimals}f}"]
        dataset.save_as(path)
        if number == missing:
            path.unlink()


@pytest.mark.parametrize(("gap_mm", "decimals"), [(1.25, 1), (0.75, 1), (0.625, 1), (0.625, 2)])
def test_rounded_positions_lie_on_the_grid_that_they_were_rounded_from(
    tmp_path: Path, gap_mm: float, decimals: int
) -> None:
    write_rounded(tmp_path, gap_mm=gap_mm, decimals=decimals)

    grid = open_ct(tmp_path, series_instance_uid="1.2.3").grid()

    # Where gaps differ by less than 0.01 mm their mean counts.
    assert grid.spacing_mm[2] == pytest.approx(gap_mm, abs=1e-9 if decimals == 1 else 2e-4)
    assert grid.origin_xyz == (-14.595865, -20.285728, -200.0)


def test_steps_that_are_not_well_below_the_gap_are_refused(tmp_path: Path) -> None:
    write_rounded(tmp_path, gap_mm=2.5, decimals=0)

    with pytest.raises(UnreadableCtError, match="must be evenly spaced"):
        open_ct(tmp_path, series_instance_uid="1.2.3").grid()


@pytest.mark.parametrize("missing", [1, 20, 38])
def test_a_missing_slice_is_no_rounding(tmp_path: Path, missing: int) -> None:
    write_rounded(tmp_path, gap_mm=1.25, decimals=1, missing=missing)

    with pytest.raises(UnreadableCtError, match=r"must be evenly spaced, got a gap of 2\.5 mm"):
        open_ct(tmp_path, series_instance_uid="1.2.3").grid()
