"""Known values of two LIDC-IDRI scans and of two files of other programs, looked up by hand."""

import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.catalogue import catalogue_series, grid_of_row
from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.plausible_hu import check_plausible_hu
from luna_pipeline.core.ct.reading import read_ct
from luna_pipeline_tests.phantoms import grid_of

pytestmark = pytest.mark.real

PREFIX = "1.3.6.1.4.1.14519.5.2.1.6279.6001."
SCAN_0001 = PREFIX + "179049373636438705059720603192"
SCAN_0003 = PREFIX + "170706757615202213033480003264"
# uid, diameter mm, voxel (col, row, index), mean HU of the middle 3 x 3 x 3 voxels.
NODULES = [
    (SCAN_0001, 23.35, (316.0, 367.0, 89.7), 86),
    (SCAN_0003, 21.45, (367.0, 349.8, 75.4), 17),
    (SCAN_0003, 8.79, (307.6, 197.9, 82.7), -222),
    (SCAN_0003, 12.82, (221.1, 219.2, 83.8), -1),
]


@pytest.fixture(scope="module")
def catalogue(lidc_root):
    return catalogue_series(lidc_root, patient_key=b"key").set_index("series_instance_uid", drop=False)


@pytest.fixture(scope="module")
def scans(lidc_root, catalogue):
    return {
        uid: read_ct(lidc_root / catalogue.loc[uid, "path"], series_instance_uid=uid) for uid in (SCAN_0001, SCAN_0003)
    }


def test_real_scans_are_plausible_hu_also_with_the_noise_of_a_low_dose(scans):
    for uid, ct in scans.items():
        check_plausible_hu(ct.hounsfield, where=uid)
        noise = np.random.default_rng(0).normal(0, 150, ct.hounsfield.shape).astype(np.int16)
        check_plausible_hu(ct.hounsfield + noise, where=uid)
        with pytest.raises(UnreadableCtError, match="must be HU"):
            check_plausible_hu(np.clip(ct.hounsfield + 1024, 0, 4095).astype(np.int16), where=uid)


def annotated(root, uid, diameter_mm):
    """Return the world position of a nodule by its diameter, read without the code under test."""
    for line in (root / "annotations.csv").read_text().splitlines()[1:]:
        series, *numbers = line.split(",")
        if series == uid and abs(float(numbers[3]) - diameter_mm) < 0.006:
            return np.array([float(number) for number in numbers[:3]])
    raise AssertionError(diameter_mm)


def test_both_scans_are_catalogued(catalogue):
    assert sorted(catalogue.index) == sorted([SCAN_0001, SCAN_0003])
    assert catalogue.is_readable.all()
    assert set(catalogue.format) == {"dicom"}
    assert catalogue.patient_hash.nunique() == 2
    assert set(catalogue.manufacturer) == {"GE MEDICAL SYSTEMS"}
    assert set(catalogue.slice_thickness_mm) == {2.5}


@pytest.mark.parametrize(
    ("uid", "size_irc", "spacing_mm", "origin_xyz"),
    [
        (SCAN_0001, (133, 512, 512), (0.703125, 0.703125, 2.5), (-166.0, -171.7, -340.0)),
        (SCAN_0003, (140, 512, 512), (0.820312, 0.820312, 2.5), (-228.8, -210.0, -379.0)),
    ],
)
def test_the_grid_is_the_known_one(scans, catalogue, uid, size_irc, spacing_mm, origin_xyz):
    grid = scans[uid].grid
    assert grid.size_irc == size_irc
    assert grid.spacing_mm == pytest.approx(spacing_mm, abs=1e-6)
    assert grid.origin_xyz == pytest.approx(origin_xyz, abs=1e-5)
    assert grid.direction == pytest.approx(np.eye(3).ravel())
    assert grid_of_row(catalogue.loc[uid]) == grid


def test_the_hounsfield_range_is_the_known_one(scans):
    assert (scans[SCAN_0001].hounsfield.min(), scans[SCAN_0001].hounsfield.max()) == (-2048, 3071)


def test_the_slices_of_a_whole_scan_are_those_of_itk(lidc_root, scans, catalogue):
    folder = str(lidc_root / catalogue.loc[SCAN_0003, "path"])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder, SCAN_0003))
    image = reader.Execute()
    np.testing.assert_array_equal(scans[SCAN_0003].hounsfield, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(scans[SCAN_0003].grid.voxel_to_world([139, 1, 2]), image[2:3, 1:2, 139:].GetOrigin())


@pytest.mark.seed_defect(21, 22)
@pytest.mark.parametrize(("uid", "diameter_mm", "voxel_cri", "mean_hu"), NODULES)
def test_each_annotated_nodule_is_where_it_was_seen(lidc_root, scans, uid, diameter_mm, voxel_cri, mean_hu):
    ct, center_xyz = scans[uid], annotated(lidc_root, uid, diameter_mm)
    np.testing.assert_allclose(ct.grid.world_to_voxel(center_xyz)[::-1], voxel_cri, atol=0.06)
    index, row, col = ct.grid.nearest_voxel(center_xyz)
    middle_hu = ct.hounsfield[index - 1 : index + 2, row - 1 : row + 2, col - 1 : col + 2]
    assert middle_hu.mean() == pytest.approx(mean_hu, abs=0.51)


def test_dicom_and_nrrd_of_one_scan_agree(real_data):
    folder = real_data / "fixtures" / "cip-ct64"
    catalogue = catalogue_series(folder / "ct-64Dicom", patient_key=b"key")
    uid = catalogue.series_instance_uid[0]
    dicom = read_ct(folder / "ct-64Dicom", series_instance_uid=uid)
    nrrd = read_ct(folder / "ct-64.nrrd", series_instance_uid=uid)
    np.testing.assert_array_equal(dicom.hounsfield, nrrd.hounsfield)
    assert dicom.grid.size_irc == (79, 64, 64)
    assert dicom.grid.spacing_mm == pytest.approx(nrrd.grid.spacing_mm, abs=1e-4)
    assert dicom.grid.origin_xyz == pytest.approx(nrrd.grid.origin_xyz, abs=1e-3)


def test_a_flipped_scan_keeps_its_axes(real_data):
    path = real_data / "fixtures" / "PartSolidLesionCropped.mha"
    ct, image = read_ct(path, series_instance_uid="part-solid"), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(ct.hounsfield, sitk.GetArrayFromImage(image))
    assert ct.grid == grid_of(image)
    assert ct.hounsfield.shape == ct.grid.size_irc == (59, 101, 97)
    assert ct.grid.direction == pytest.approx((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    np.testing.assert_allclose(
        ct.grid.voxel_to_world([10, 20, 30]), [222.4 - 30 * 0.701172, 214.2 - 20 * 0.701172, -294 + 12.5]
    )
