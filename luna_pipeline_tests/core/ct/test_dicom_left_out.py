"""What bears a series' uid and is no slice of it; and what stored numbers mean slice by slice."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.dicom_headers import read_slices
from luna_pipeline.core.ct.reading import UnreadableCtError, files_of_series, read_ct
from luna_pipeline_tests.phantoms import edit_dicom, random_hounsfield, write_dicom_series

UID = "1.2.3"
MULTI_FRAME_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.4"
LOCALIZER = {
    "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
    "ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"],
}


@pytest.fixture
def folder(tmp_path):
    return write_dicom_series(tmp_path / "dicom", UID, random_hounsfield())


def add_picture(folder, name="other.dcm", *, without_place=False, **tags):
    """A copy of a slice under another name that says of itself to be something else."""
    dataset = pydicom.dcmread(folder / "slice0003.dcm")
    if without_place:
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(folder / name)


def reason_of(folder):
    with pytest.raises(UnreadableCtError) as caught:
        read_ct(folder, series_instance_uid=UID)
    return str(caught.value)


def assert_series_is_whole(folder):
    ct = read_ct(folder, series_instance_uid=UID)
    np.testing.assert_array_equal(ct.hounsfield, random_hounsfield())
    assert [file.name for file in ct.files] == [f"slice{number:04d}.dcm" for number in range(1, 7)]
    assert files_of_series(folder, series_instance_uid=UID) == ct.files


def test_a_localizer_is_left_out(folder):
    add_picture(folder, **LOCALIZER, Rows=4, Columns=20)
    assert_series_is_whole(folder)


@pytest.mark.parametrize("sop_class", [SecondaryCaptureImageStorage, MULTI_FRAME_CAPTURE])
def test_a_secondary_capture_is_left_out(folder, sop_class):
    add_picture(folder, without_place=True, SOPClassUID=sop_class, Modality="OT")
    assert_series_is_whole(folder)


def test_a_coloured_screenshot_is_left_out(folder):
    colours = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": bytes(8 * 10 * 3)}
    add_picture(folder, without_place=True, SOPClassUID=SecondaryCaptureImageStorage, **colours, **bits)
    assert_series_is_whole(folder)


def test_a_derived_picture_without_a_place_is_left_out(folder):
    add_picture(folder, without_place=True, ImageType=["DERIVED", "SECONDARY", "DOSE_INFO"])
    assert_series_is_whole(folder)


def test_a_derived_slice_with_its_place_belongs_to_the_series(folder):
    edit_dicom(folder / "slice0003.dcm", ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    assert_series_is_whole(folder)


def test_an_original_without_a_place_is_refused_by_name(folder):
    add_picture(folder, without_place=True, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    assert "ImagePositionPatient must be in the header, got none (other.dcm" in reason_of(folder)


def test_what_is_left_out_changes_no_fingerprint(folder):
    before = catalogue_series(folder, patient_key=b"key").iloc[0]
    add_picture(folder, **LOCALIZER)
    after = catalogue_series(folder, patient_key=b"key").iloc[0]
    assert (after.fingerprint, after.num_bytes) == (before.fingerprint, before.num_bytes)


def test_a_series_of_nothing_else_is_a_row_with_its_reason(folder):
    write_dicom_series(folder / "scout", "1.2.4", random_hounsfield((1, 8, 10)), tags=LOCALIZER)
    catalogue = catalogue_series(folder, patient_key=b"key").set_index("series_instance_uid")
    assert catalogue.is_readable.to_dict() == {UID: True, "1.2.4": False}
    assert "got 1 images that are none: slice0001.dcm (a localizer) (series 1.2.4)" in catalogue.reason["1.2.4"]
    assert catalogue.path["1.2.4"] == "scout"
    assert catalogue.num_bytes["1.2.4"] == (folder / "scout" / "slice0001.dcm").stat().st_size


@pytest.mark.parametrize("tags", [{"SamplesPerPixel": 2}, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}])
def test_colours_and_bytes_are_no_slices(tmp_path, tags):
    pixels = {"PixelData": bytes(8 * 10 * 4)}
    folder = write_dicom_series(tmp_path, UID, random_hounsfield(), tags=tags | pixels)
    assert "must hold one number of 16 bits" in reason_of(folder)


STORED = (0, 3, 1001, 3000)


def write_stored(tmp_path, rescales, *, signs=(0, 0, 0)):
    """Three slices of four stored numbers, each with a slope and an intercept of its own; lowest slice first."""
    folder = write_dicom_series(tmp_path, UID, np.zeros((3, 2, 2), dtype=np.int16))
    for number, (slope, intercept), sign in zip((3, 2, 1), rescales, signs, strict=True):
        edit_dicom(
            folder / f"slice{number:04d}.dcm", RescaleSlope=slope, RescaleIntercept=intercept,
            PixelRepresentation=sign, PixelData=np.array(STORED, dtype="<u2").tobytes(),
        )  # fmt: skip
    return read_ct(folder, series_instance_uid=UID).hounsfield.reshape(3, 4).tolist()


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        ("1", "0", [0, 3, 1001, 3000]),
        ("1", "-1000", [-1000, -997, 1, 2000]),
        ("2", "-1024", [-1024, -1018, 978, 4976]),
        # 1.5 and 500.5: halves to even.
        ("0.5", "0", [0, 2, 500, 1500]),
        ("12", "1000", [1000, 1036, 13012, 32767]),
        ("-1", "0", [0, -3, -1001, -3000]),
    ],
)
def test_slope_and_intercept_of_a_series_count(tmp_path, slope, intercept, expected):
    assert write_stored(tmp_path, [(slope, intercept)] * 3) == [expected] * 3


def test_slope_and_intercept_of_each_slice_count(tmp_path):
    assert write_stored(tmp_path, [("1", "-1024"), ("0.5", "0"), ("20", "-1000")]) == [
        [-1024, -1021, -23, 1976],
        [0, 2, 500, 1500],
        [-1000, -940, 19020, 32767],
    ]


def test_signed_and_unsigned_slices_may_be_mixed(tmp_path):
    expected = [list(STORED), [-2000, -1997, -999, 1000], list(STORED)]
    assert write_stored(tmp_path, [("1", "0"), ("1", "-2000"), ("1", "0")], signs=(0, 1, 0)) == expected


@pytest.mark.parametrize("slope", [None, "1"])
def test_without_a_rescale_stored_numbers_are_hounsfield(tmp_path, slope):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield())
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.RescaleSlope, dataset.RescaleIntercept
        if slope:
            dataset.RescaleSlope = slope
        dataset.save_as(path)
    hounsfield = read_ct(folder, series_instance_uid=UID).hounsfield
    np.testing.assert_array_equal(hounsfield, random_hounsfield() + 1024)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Only Linux counts the bytes that a process reads")
def test_a_header_is_read_without_its_voxels(folder):
    path = folder / "slice0003.dcm"
    voxels = np.zeros(40_000_000, dtype="<u2")
    edit_dicom(path, Rows=5000, Columns=8000, PixelData=voxels.tobytes())

    def num_bytes_read():
        return int(Path("/proc/self/io").read_text().split()[1])

    before = num_bytes_read()
    (item,) = read_slices(path)
    assert item.size_rc == (5000, 8000)
    assert num_bytes_read() - before < 200_000
