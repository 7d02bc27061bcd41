"""Facts of grids, with axes named by hand and by SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.quality.geometry_facts import geometry_facts, missing_slices
from luna_pipeline_tests.core.quality.examples import chest
from luna_pipeline_tests.phantoms import IDENTITY, grid_of, make_image, write_dicom_series

TILTED = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
# Columns are the directions of col, row, index.
CORONAL = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
SAGITTAL = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]])


@pytest.mark.parametrize(
    ("direction", "plane", "tilt_deg"),
    [
        (np.eye(3), "axial", 0.0),
        (np.diag([-1.0, -1.0, 1.0]), "axial", 0.0),
        (CORONAL, "coronal", 0.0),
        (SAGITTAL, "sagittal", 0.0),
        (TILTED, "axial", np.degrees(0.2)),
    ],
)
def test_plane_axes_and_tilt(direction, plane, tilt_deg):
    image = make_image(chest((4, 6, 8)), direction=direction.ravel().tolist())
    facts = geometry_facts(grid_of(image))
    assert facts["plane"] == plane
    assert facts["axes"] == sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    assert facts["tilt_deg"] == pytest.approx(tilt_deg, abs=1e-3)


def test_lengths_are_of_the_axial_view():
    image = make_image(chest((4, 6, 8)), spacing_mm=(0.5, 2.0, 0.8), direction=CORONAL.ravel().tolist())
    facts = geometry_facts(grid_of(image))
    # The stored rows run to the feet: 6 of 2 mm; the stored index to the back: 4 of 0.8 mm.
    assert (facts["num_slices"], facts["num_rows"], facts["num_cols"]) == (6, 4, 8)
    assert (facts["slice_spacing_mm"], facts["pixel_spacing_mm"]) == (2.0, 0.8)
    assert facts["coverage_mm"] == pytest.approx(12.0)
    assert facts["field_of_view_mm"] == pytest.approx(4.0)


@pytest.mark.parametrize(("removed", "expected"), [([], 0), ([3], 1), ([3, 4, 8], 3), ([0, 11], 0)])
def test_missing_slices_are_counted_by_position(tmp_path, removed, expected):
    folder = write_dicom_series(tmp_path / "ct", "1.2", chest((12, 16, 16)), direction=IDENTITY)
    files = sorted(folder.iterdir())
    for place in removed:
        files[place].unlink()
    assert missing_slices(folder)["1.2"] == expected


def test_missing_slices_are_unknown_where_positions_do_not_say_it(tmp_path):
    folder = write_dicom_series(tmp_path / "ct", "1.2", chest((4, 16, 16)))
    assert list(missing_slices(folder)) == ["1.2"]
    write_dicom_series(folder, "1.2", chest((4, 16, 16), noise_hu=9.0), prefix="again")
    assert missing_slices(folder)["1.2"] is None
    broken = write_dicom_series(tmp_path / "broken", "1.2", chest((4, 16, 16)))
    next(iter(sorted(broken.iterdir()))).write_bytes(b"no DICOM")
    assert missing_slices(broken)["1.2"] is None
