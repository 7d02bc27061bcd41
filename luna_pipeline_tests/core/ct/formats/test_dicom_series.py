from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from luna_pipeline.core.ct.formats.dicom_grid import _even_gap
from luna_pipeline.core.ct.formats.dicom_series import DicomReader
from luna_pipeline.core.ct.reading import UnreadableCtError, read_ct
from luna_pipeline_tests.phantoms import edit_dicom, grid_of, random_direction, random_hounsfield, write_dicom_series

UID = "1.2.3"
# The phantom names its files against the order of the slices: slice0006.dcm is the lowest.
LOWEST, SECOND, HIGHEST = "slice0006.dcm", "slice0005.dcm", "slice0001.dcm"


@pytest.fixture
def folder(tmp_path):
    return write_dicom_series(tmp_path / "dicom", UID, random_hounsfield())


def reason_of(folder, uid=UID):
    with pytest.raises(UnreadableCtError) as caught:
        read_ct(folder, series_instance_uid=uid)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def move(path, *, by_xyz):
    position = np.array(pydicom.dcmread(path).ImagePositionPatient, dtype=float) + by_xyz
    edit_dicom(path, ImagePositionPatient=[f"{value:.6f}" for value in position])


def test_slices_are_sorted_by_position_and_hounsfield_come_back(folder):
    ct = read_ct(folder, series_instance_uid=UID)
    np.testing.assert_array_equal(ct.hounsfield, random_hounsfield())
    assert ct.hounsfield.dtype == np.int16


def test_the_gap_of_the_positions_counts_not_the_slice_thickness(folder):
    grid = read_ct(folder, series_instance_uid=UID).grid
    assert pydicom.dcmread(folder / LOWEST).SliceThickness == 5.0
    assert grid.spacing_mm == pytest.approx((0.7, 0.8, 2.5))
    assert grid.origin_xyz == pytest.approx((-50, -40, -300))


@pytest.mark.seed_defect(21, 22)
@pytest.mark.parametrize("seed", range(4))
def test_oblique_series_agree_with_itk(tmp_path, seed):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield(), direction=random_direction(seed))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), UID))
    image, ct = reader.Execute(), read_ct(folder, series_instance_uid=UID)
    np.testing.assert_array_equal(ct.hounsfield, sitk.GetArrayFromImage(image))
    corners_irc = np.array([[0, 0, 0], [5, 7, 9], [5, 0, 9]])
    np.testing.assert_allclose(
        ct.grid.voxel_to_world(corners_irc), grid_of(image).voxel_to_world(corners_irc), atol=1e-6
    )


def test_two_series_in_one_folder_are_told_apart(folder):
    other = random_hounsfield((4, 8, 10), seed=1)
    write_dicom_series(folder, "1.2.4", other, prefix="other")
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid="1.2.4").hounsfield, other)
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, random_hounsfield())


def test_reports_and_notes_beside_the_slices_are_passed_over(folder):
    (folder / "readers.xml").write_text("<readers/>")
    (folder / "note.txt").write_text("fine")
    (folder / "tiny").write_bytes(b"")
    assert read_ct(folder, series_instance_uid=UID).hounsfield.shape == (6, 8, 10)


def test_slices_without_a_suffix_are_found(folder):
    for path in sorted(folder.iterdir()):
        path.rename(path.with_suffix(""))
    assert read_ct(folder, series_instance_uid=UID).hounsfield.shape == (6, 8, 10)


def test_a_missing_slice_is_refused_by_its_neighbours(folder):
    (folder / "slice0003.dcm").unlink()
    reason = reason_of(folder)
    assert "a gap of 5 mm among gaps of 2.5 mm (between slice0004.dcm and slice0002.dcm" in reason


@pytest.mark.parametrize(("shift_mm", "is_refused"), [(0.02, True), (0.002, False), (-0.02, True), (1.0, True)])
def test_unevenly_spaced_slices_are_refused_beyond_a_hundredth_of_a_millimetre(folder, shift_mm, is_refused):
    move(folder / SECOND, by_xyz=(0, 0, shift_mm))
    if is_refused:
        assert "Slices must be evenly spaced" in reason_of(folder)
    else:
        assert read_ct(folder, series_instance_uid=UID).grid.spacing_mm[2] == pytest.approx(2.5)


def write_positions(tmp_path, heights_mm, decimals, **options):
    """Slices at these heights, written with so many decimals; the other coordinates are exact."""
    folder = write_dicom_series(tmp_path / "data", UID, random_hounsfield((len(heights_mm), 8, 10)), **options)
    for path, height_mm in zip(sorted(folder.iterdir(), reverse=True), heights_mm, strict=True):
        edit_dicom(path, ImagePositionPatient=["-50.123456", "-40", f"{height_mm:.{decimals}f}"])
    return folder


@pytest.mark.parametrize(
    ("spacing_mm", "decimals"),
    [(1.25, 1), (0.625, 1), (0.7, 1), (3.75, 1), (0.33, 2), (2.0 / 3, 1), (5, 0)],
)
@pytest.mark.parametrize("start_mm", [-200.0, -200.03, 17.25])
@pytest.mark.parametrize("num_slices", [3, 7, 40, 301])
def test_rounded_positions_are_compared_with_an_even_grid(spacing_mm, decimals, start_mm, num_slices):
    step_mm = 10.0**-decimals
    heights_mm = start_mm + spacing_mm * np.arange(num_slices)
    gap_mm = _even_gap(_named(num_slices), np.round(heights_mm, decimals), step_mm, uid=UID)
    # Both grids differ from the first and the last height by half a step at most.
    assert abs(gap_mm - spacing_mm) * (num_slices - 1) <= 2 * step_mm + 1e-5


def _named(num_slices):
    return [SimpleNamespace(name=f"{number}.dcm", acquisition="") for number in range(num_slices)]


def test_positions_with_one_decimal_have_the_spacing_that_was_meant(tmp_path):
    heights_mm = -200 + 1.25 * np.arange(12)
    ct = read_ct(write_positions(tmp_path, heights_mm, 1), series_instance_uid=UID)
    assert ct.grid.spacing_mm[2] == 1.25
    assert ct.grid.origin_xyz == (-50.123456, -40, -200)


@pytest.mark.parametrize("place", [1, 5, 10])
def test_a_slice_that_is_missing_among_rounded_ones_is_refused(tmp_path, place):
    heights_mm = np.delete(-200 + 1.25 * np.arange(12), place)
    assert "Slices must be evenly spaced" in reason_of(write_positions(tmp_path, heights_mm, 1))


def test_a_slice_that_is_displaced_by_two_steps_is_refused(tmp_path):
    heights_mm = -200 + 1.25 * np.arange(12)
    heights_mm[4] += 0.2
    assert "Slices must be evenly spaced" in reason_of(write_positions(tmp_path, heights_mm, 1))


def test_whole_millimetres_are_too_coarse_for_thin_slices(tmp_path):
    assert "Slices must be evenly spaced" in reason_of(write_positions(tmp_path, -200 + 1.25 * np.arange(12), 0))


@pytest.mark.parametrize("turn", [0.0003, 0.0009])
def test_orientations_that_differ_by_rounding_are_averaged(folder, turn):
    for path in sorted(folder.iterdir())[::2]:
        edit_dicom(path, ImageOrientationPatient=["1", f"{turn}", "0", f"-{turn}", "1", "0"])
    grid = read_ct(folder, series_instance_uid=UID).grid
    axes = np.reshape(grid.direction, (3, 3))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert axes[1, 0] == pytest.approx(turn / 2, abs=1e-6)


@pytest.mark.parametrize("orientation", [["1", "0.002", "0", "-0.002", "1", "0"], ["1", "0.01", "0", "0", "1", "0"]])
def test_larger_turns_are_refused(folder, orientation):
    edit_dicom(folder / HIGHEST, ImageOrientationPatient=orientation)
    assert f"got slice0002.dcm unlike {HIGHEST} in orientation" in reason_of(folder)


def test_axes_that_are_not_perpendicular_are_refused(tmp_path):
    tags = {"ImageOrientationPatient": ["1", "0.01", "0", "0", "1", "0"]}
    assert "orthonormal" in reason_of(write_dicom_series(tmp_path, UID, random_hounsfield(), tags=tags))


def test_thin_slices_are_refused_beyond_one_per_cent_of_the_gap(tmp_path):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield(), spacing_mm=(0.7, 0.7, 0.5))
    move(folder / SECOND, by_xyz=(0, 0, 0.007))
    assert "Slices must be evenly spaced" in reason_of(folder)


def test_equal_copies_of_slices_are_dropped_and_noted(folder):
    (folder / f"{LOWEST[:-4]} (1).dcm").write_bytes((folder / LOWEST).read_bytes())
    (folder / "copy.dcm").write_bytes((folder / HIGHEST).read_bytes())
    ct = read_ct(folder, series_instance_uid=UID)
    np.testing.assert_array_equal(ct.hounsfield, random_hounsfield())
    # The shortest name stays.
    assert [path.name for path in ct.files] == ["copy.dcm", *(f"slice{number:04d}.dcm" for number in range(2, 7))]
    (note,) = DicomReader(folder, UID).series.notes
    assert note == "2 files are equal copies of slices and ignored: slice0001.dcm, slice0006 (1).dcm."


@pytest.mark.parametrize("is_same_instance", [True, False])
def test_another_slice_at_the_same_place_is_refused_by_both_names(folder, is_same_instance):
    dataset = pydicom.dcmread(folder / LOWEST)
    dataset.PixelData = dataset.PixelData[:-2] + b"\1\1"
    dataset.AcquisitionNumber = 2
    if not is_same_instance:
        dataset.SOPInstanceUID = "1.2.3.99"
    dataset.save_as(folder / "other.dcm")
    reason = reason_of(folder)
    assert f"got other.dcm and {LOWEST} at one with different content, AcquisitionNumber 2 and none" in reason
    assert "two acquisitions or reconstructions in one series" in reason


def test_a_tilted_gantry_is_refused(folder):
    for step, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        move(path, by_xyz=(0, 0.4 * step, 0))
    assert "got a drift of 2 mm" in reason_of(folder)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"]}, "size, pixel spacing and orientation"),
        ({"PixelSpacing": ["0.9", "0.9"]}, "size, pixel spacing and orientation"),
    ],
)
def test_foreign_slices_in_a_series_are_refused_by_name(folder, tags, words):
    edit_dicom(folder / HIGHEST, **tags)
    reason = reason_of(folder)
    assert words in reason
    assert HIGHEST in reason


def test_other_modalities_are_refused(tmp_path):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield(), tags={"Modality": "MR"})
    assert "Modality must be CT, got MR" in reason_of(folder)


def test_a_single_slice_is_no_ct(tmp_path):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield((1, 8, 10)))
    assert "two slices or more, got 1" in reason_of(folder)


def test_a_slice_whose_pixels_do_not_unpack_is_refused(folder):
    dataset = pydicom.dcmread(folder / SECOND)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"garbage"])
    dataset.save_as(folder / SECOND)
    assert UID in reason_of(folder)


def test_a_series_without_pixel_spacing_is_refused(folder):
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.PixelSpacing
        dataset.save_as(path)
    assert "PixelSpacing must be in the header" in reason_of(folder)


# The highest slice: without it the others are evenly spaced, so that its loss would go unseen.
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_truncated_slice_spoils_its_series_by_name_and_no_other(folder, syntax):
    write_dicom_series(folder, "1.2.4", random_hounsfield(seed=1), prefix="other")
    dataset = pydicom.dcmread(folder / HIGHEST)
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(folder / HIGHEST, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    (folder / HIGHEST).write_bytes((folder / HIGHEST).read_bytes()[:-40])
    assert f"got 1 that do not: {HIGHEST} (series {UID})" in reason_of(folder)
    assert read_ct(folder, series_instance_uid="1.2.4").hounsfield.shape == (6, 8, 10)


@pytest.mark.parametrize("num_bytes", [0, 100, 300])
def test_a_slice_that_names_no_series_spoils_the_only_one_of_its_folder(folder, num_bytes):
    (folder / HIGHEST).write_bytes((folder / HIGHEST).read_bytes()[:num_bytes])
    assert f"got 1 that do not: {HIGHEST} (series {UID})" in reason_of(folder)


def test_a_slice_that_names_no_series_spoils_none_of_several(folder):
    write_dicom_series(folder, "1.2.4", random_hounsfield(seed=1), prefix="other")
    (folder / "torn.dcm").write_bytes(b"torn")
    assert read_ct(folder, series_instance_uid=UID).hounsfield.shape == (6, 8, 10)
    assert "got 1 that do not: torn.dcm" in reason_of(folder, "torn")


def test_a_report_on_the_series_spoils_nothing(folder):
    report = pydicom.dcmread(folder / LOWEST)
    del report.PixelData
    report.Modality = "SR"
    report.save_as(folder / "report.dcm")
    (folder / "DICOMDIR").write_bytes((folder / "report.dcm").read_bytes())
    assert read_ct(folder, series_instance_uid=UID).hounsfield.shape == (6, 8, 10)


@pytest.mark.parametrize("uid", ["1.2", "9.9.9"])
def test_a_series_that_is_not_there_is_refused_with_those_that_are(folder, uid):
    reason = reason_of(folder, uid)
    assert f"must hold the series that is asked for, got ['{UID}']" in reason
    assert f"series {uid})" in reason


def test_what_a_system_hides_beside_the_slices_is_no_slice(folder):
    (folder / "._slice0001.dcm").write_bytes(b"finder")
    assert read_ct(folder, series_instance_uid=UID).hounsfield.ndim == 3


def test_an_empty_folder_is_refused(tmp_path):
    assert "got none" in reason_of(tmp_path)
