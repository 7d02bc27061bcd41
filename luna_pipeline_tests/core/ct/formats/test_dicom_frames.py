"""Several frames in one file are ordered by their functional groups, not by their order in the file."""

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import JPEGLSLossless, RLELossless

from luna_pipeline.core.ct.catalogue import catalogue_series, grid_of_row
from luna_pipeline.core.ct.formats import dicom_voxels
from luna_pipeline.core.ct.formats.dicom_series import ordered_slices, scan_dicom_files
from luna_pipeline.core.ct.formats.dicom_unpacking import inflate
from luna_pipeline.core.ct.reading import UnreadableCtError, read_ct
from luna_pipeline_tests.core.ct.formats.dicom_packing import WRITERS
from luna_pipeline_tests.core.ct.formats.enhanced_dicom import write_enhanced_ct
from luna_pipeline_tests.phantoms import make_image, random_direction, random_hounsfield

UID = "1.2.3"
SHUFFLED = (3, 0, 5, 1, 4, 2)


def stored_numbers(seed=0):
    return np.random.default_rng(seed).integers(0, 3000, size=(6, 8, 10)).astype(np.uint16)


def reason_of(folder):
    with pytest.raises(UnreadableCtError) as caught:
        read_ct(folder, series_instance_uid=UID)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_shuffled_frames_come_back_in_their_places(tmp_path, seed):
    stored = stored_numbers()
    direction = (1, 0, 0, 0, 1, 0, 0, 0, 1) if seed is None else random_direction(2 * seed)
    write_enhanced_ct(tmp_path / "a.dcm", UID, stored, order=SHUFFLED, direction=direction)
    ct = read_ct(tmp_path, series_instance_uid=UID)
    np.testing.assert_array_equal(ct.hounsfield, stored.astype(np.int16) - 1024)
    assert ct.hounsfield.dtype == np.int16
    assert ct.grid.size_irc == (6, 8, 10)
    assert ct.grid.spacing_mm == pytest.approx((0.7, 0.8, 2.5), abs=1e-6)
    assert ct.grid.origin_xyz == pytest.approx((-50, -40, -300), abs=1e-6)
    assert ct.grid.direction == pytest.approx(direction, abs=1e-6)
    assert ct.files == (tmp_path / "a.dcm",)


@pytest.mark.parametrize("seed", [0, 2])
def test_volumes_agree_with_highdicom(tmp_path, seed):
    path = write_enhanced_ct(
        tmp_path / "a.dcm", UID, stored_numbers(seed), order=SHUFFLED, direction=random_direction(seed)
    )
    ct, volume = read_ct(tmp_path, series_instance_uid=UID), highdicom.imread(path).get_volume()
    # highdicom may number slices in the other direction; voxels are compared by their world positions.
    voxels_irc = np.array([[0, 0, 0], [5, 7, 9], [2, 3, 4], [4, 0, 9]])
    theirs = np.rint(volume.map_reference_to_indices(ct.grid.voxel_to_world(voxels_irc))).astype(int)
    np.testing.assert_allclose(volume.map_indices_to_reference(theirs), ct.grid.voxel_to_world(voxels_irc), atol=1e-5)
    np.testing.assert_array_equal(volume.array[tuple(theirs.T)], ct.hounsfield[tuple(voxels_irc.T)])


def test_a_file_that_itk_writes_is_read_as_it_was(tmp_path):
    image = make_image(random_hounsfield())
    for key, value in (("0008|0060", "CT"), ("0020|000e", UID), ("0008|0016", "1.2.840.10008.5.1.4.1.1.2.1")):
        image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(tmp_path / "frames.dcm"))
    writer.Execute(image)
    ct = read_ct(tmp_path, series_instance_uid=UID)
    np.testing.assert_array_equal(ct.hounsfield, random_hounsfield())
    assert ct.grid.spacing_mm == pytest.approx((0.7, 0.8, 2.5))
    assert ct.grid.origin_xyz == pytest.approx((-50, -40, -300))


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_rescale_of_each_frame_counts(tmp_path, is_packed):
    rescales = [(1, -1024), (2, -1000), (0.5, -2000), (1, -900), (0.25, -1100), (3, -1200)]
    hounsfield = np.array([-800, -3, 40, 900])
    stored = np.array([(hounsfield - intercept) / slope for slope, intercept in rescales]).round().astype(np.uint16)
    path = write_enhanced_ct(tmp_path / "a.dcm", UID, stored.reshape(6, 2, 2), order=SHUFFLED, rescales=rescales)
    if is_packed:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    slopes, intercepts = np.array(rescales).T[..., None]
    expected = np.rint(stored * slopes + intercepts)
    read = read_ct(tmp_path, series_instance_uid=UID).hounsfield.reshape(6, 4)
    np.testing.assert_array_equal(read, expected)
    assert read[4].tolist() == hounsfield.tolist()


def test_a_rescale_that_differs_between_frames_without_reason_is_refused_by_both(tmp_path):
    rescales = [(1, -1024), (1, -1024), (2, -1024), (1, -1024), (1, -1024), (1, -1024)]
    write_enhanced_ct(
        tmp_path / "a.dcm", UID, stored_numbers()[:1].repeat(6, axis=0), order=SHUFFLED, rescales=rescales
    )
    reason = reason_of(tmp_path)
    assert "got 2 and -1024 beside 1 and -1024" in reason
    assert "(frame 6 of a.dcm and frame 4 of a.dcm" in reason


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ((3, 0, 5, 1, 2), "a gap of 5 mm among gaps of 2.5 mm (between frame 1 of a.dcm and frame 3 of a.dcm"),
        ((3, 0, 5, 1, 4, 2, 5), "got frame 3 of a.dcm and frame 7 of a.dcm at one"),
        ((0,), "two slices or more, got 1 (frame 1 of a.dcm"),
    ],
)
def test_missing_and_doubled_frames_are_refused_by_number(tmp_path, order, words):
    write_enhanced_ct(tmp_path / "a.dcm", UID, stored_numbers(), order=order)
    assert words in reason_of(tmp_path)


def test_a_tilted_gantry_is_refused(tmp_path):
    write_enhanced_ct(tmp_path / "a.dcm", UID, stored_numbers(), order=SHUFFLED, drift_mm=0.4)
    assert "got a drift of 2 mm" in reason_of(tmp_path)


@pytest.mark.parametrize(
    ("group", "keyword"),
    [
        ("PlanePositionSequence", "ImagePositionPatient"),
        ("PlaneOrientationSequence", "ImageOrientationPatient"),
        ("PixelMeasuresSequence", "PixelSpacing"),
    ],
)
def test_frames_that_do_not_say_where_they_lie_are_refused_by_number(tmp_path, group, keyword):
    path = write_enhanced_ct(tmp_path / "a.dcm", UID, stored_numbers(), order=SHUFFLED)
    dataset = pydicom.dcmread(path)
    shared, frame = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]
    del (frame if group in frame else shared)[group]
    dataset.save_as(path)
    assert f"{keyword} must be in the header, got none (frame 1 of a.dcm" in reason_of(tmp_path)


def test_frames_without_functional_groups_are_refused(tmp_path):
    path = write_enhanced_ct(tmp_path / "a.dcm", UID, stored_numbers(), order=SHUFFLED)
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(path)
    assert "must be in the header, got none (frame 1 of a.dcm" in reason_of(tmp_path)


def test_a_file_with_fewer_groups_than_frames_is_refused(tmp_path):
    path = write_enhanced_ct(tmp_path / "a.dcm", UID, stored_numbers(), order=SHUFFLED)
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    dataset.save_as(path)
    assert "got 1 that do not: a.dcm" in reason_of(tmp_path)


def test_one_series_may_lie_in_several_files(tmp_path):
    write_enhanced_ct(tmp_path / "upper.dcm", UID, stored_numbers(), order=(5, 3, 4))
    write_enhanced_ct(tmp_path / "lower.dcm", UID, stored_numbers(), order=(1, 0, 2))
    ct = read_ct(tmp_path, series_instance_uid=UID)
    np.testing.assert_array_equal(ct.hounsfield, stored_numbers().astype(np.int16) - 1024)
    assert ct.files == (tmp_path / "lower.dcm", tmp_path / "upper.dcm")


def test_a_truncated_file_is_refused_by_name(tmp_path):
    path = write_enhanced_ct(tmp_path / "a.dcm", UID, stored_numbers(), order=SHUFFLED)
    path.write_bytes(path.read_bytes()[:-100])
    assert "got 1 that do not: a.dcm" in reason_of(tmp_path)


def test_frames_that_do_not_unpack_are_refused(tmp_path):
    path = write_enhanced_ct(tmp_path / "a.dcm", UID, stored_numbers(), order=SHUFFLED)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"garbage"] * 6)
    dataset.save_as(path)
    assert "Packed frames must unpack" in reason_of(tmp_path)


def test_the_catalogue_knows_the_file_by_its_header(tmp_path):
    path = write_enhanced_ct(tmp_path / "a.dcm", UID, stored_numbers(), order=SHUFFLED)
    row = catalogue_series(tmp_path, patient_key=b"key").iloc[0]
    assert (row.series_instance_uid, row.format, row.num_bytes) == (UID, "dicom", path.stat().st_size)
    assert grid_of_row(row) == ordered_slices(scan_dicom_files([path])[UID])[1]


def test_a_deflated_file_is_unpacked_once_for_all_its_frames(tmp_path, monkeypatch):
    expected = random_hounsfield((5, 8, 10))
    path = write_enhanced_ct(tmp_path / "ct.dcm", "1.2.3", (expected + 1024).astype("<u2"), order=(3, 0, 4, 1, 2))
    WRITERS["deflated"](path)
    unpacked = []
    monkeypatch.setattr(dicom_voxels, "inflate", lambda *args: unpacked.append(args) or inflate(*args))
    ct = read_ct(tmp_path, series_instance_uid="1.2.3")
    np.testing.assert_array_equal(ct.hounsfield, expected)
    assert len(unpacked) == 1
