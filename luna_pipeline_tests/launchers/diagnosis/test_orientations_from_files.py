"""A CT in files of any orientation gives the same nodules: other slices, DICOM, an oblique header."""

import numpy as np
import pytest

from luna_pipeline.core.diagnosis.diagnose import diagnose
from luna_pipeline.core.diagnosis.recipes import default
from luna_pipeline.core.phantom.series import PhantomConfig, make_series
from luna_pipeline.launchers.diagnosis.input import read_input
from luna_pipeline_tests.core.diagnosis.orientations import reoriented, rotation, turned_header
from luna_pipeline_tests.diagnosis_models import diagnosis_models
from luna_pipeline_tests.phantoms import write_ct, write_dicom_series

UID = "1.2.3"
RECIPE = default().with_changes(lung_margin_mm=0.0, merge_mm=0.5, min_diameter_mm=1.0, num_flips=1)
# (index, row, col) of the file by the axes of the phantom: rows along the columns, slices along the rows.
CORONAL, SAGITTAL = ((1, 0, 2), (True, False, False)), ((2, 0, 1), (False, True, False))


@pytest.fixture(scope="module")
def series():
    return make_series(PhantomConfig(seed=2, number=3, size_irc=(32, 50, 56)))


def written(writer, folder, hounsfield, grid, **options):
    place = {"spacing_mm": grid.spacing_mm, "origin_xyz": grid.origin_xyz, "direction": grid.direction}
    return writer(folder, UID, hounsfield, **place, **options)


def diagnosed(path):
    """Return the CT as it is read, and its nodules."""
    ct = read_input(path).ct
    return ct, diagnose(ct, diagnosis_models(), RECIPE).nodules


@pytest.fixture(scope="module")
def expected(series, tmp_path_factory):
    return diagnosed(written(write_ct, tmp_path_factory.mktemp("axial"), series.hounsfield, series.grid))


@pytest.mark.parametrize("way", [CORONAL, SAGITTAL], ids=["coronal", "sagittal"])
@pytest.mark.parametrize("file_format", ["volume", "dicom"])
def test_files_in_other_slices_give_the_same_nodules(series, expected, tmp_path, way, file_format):
    hounsfield, grid = reoriented(series.hounsfield, series.grid, *way)
    options = {"suffix": ".mha"} if file_format == "volume" else {}
    writer = write_ct if file_format == "volume" else write_dicom_series
    path = written(writer, tmp_path, hounsfield, grid, **options)
    (before, expected_nodules), (after, nodules) = expected, diagnosed(path)
    assert len(nodules) == len(expected_nodules) >= 3
    half_mm = 0.5 * np.asarray(series.grid.spacing_mm)
    for one, two in zip(expected_nodules, nodules, strict=True):
        assert (np.abs(np.subtract(one.center_xyz, two.center_xyz)) <= half_mm).all()
        assert one.probability == pytest.approx(two.probability, abs=1e-5)
        # DICOM's slices are sorted along their normal, which may run against the phantom's.
        voxels = [np.sort(ct.hounsfield[nodule.box][nodule.mask]) for ct, nodule in ((before, one), (after, two))]
        assert np.array_equal(*voxels)


@pytest.mark.parametrize("degrees", [12, -35])
def test_an_oblique_header_turns_the_nodules(series, expected, tmp_path, degrees):
    turn = rotation(degrees)
    path = written(write_ct, tmp_path, series.hounsfield, turned_header(series.grid, turn), suffix=".mha")
    (_, expected_nodules), (_, nodules) = expected, diagnosed(path)
    assert len(nodules) == len(expected_nodules)
    for one, two in zip(expected_nodules, nodules, strict=True):
        np.testing.assert_allclose(two.center_xyz, turn @ np.asarray(one.center_xyz), atol=0.05)
        assert one.diameter_mm == pytest.approx(two.diameter_mm)
