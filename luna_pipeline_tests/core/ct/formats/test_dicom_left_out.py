"""Images with a series' uid that are no slices of it, and rescaling that differs between slices."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.formats.dicom_headers import read_slices
from luna_pipeline.core.ct.reading import UnreadableCtError, open_ct, read_ct
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
    """Write a copy of a slice under another name, with other attributes."""
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
    assert open_ct(folder, series_instance_uid=UID).files() == ct.files


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


@pytest.mark.parametrize(
    ("tags", "num_bytes"), [({"SamplesPerPixel": 2}, 4), ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, 1)]
)
def test_colours_and_bytes_are_no_slices(tmp_path, tags, num_bytes):
    pixels = {"PixelData": bytes(8 * 10 * num_bytes)}
    folder = write_dicom_series(tmp_path, UID, random_hounsfield(), tags=tags | pixels)
    assert "must hold one number of 16 bits" in reason_of(folder)


STORED = (0, 3, 1001, 3000)


def pack(path):
    """Compress the pixels of a file, so that another decoder reads it."""
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)


def write_stored(tmp_path, rescales, *, stored=(STORED,) * 3, signs=(0, 0, 0), is_packed=False):
    """Three slices of four stored numbers, each with another slope and intercept; lowest slice first."""
    folder = write_dicom_series(tmp_path, UID, np.zeros((3, 16, 16), dtype=np.int16))
    for number, (slope, intercept), sign, numbers in zip((3, 2, 1), rescales, signs, stored, strict=True):
        edit_dicom(
            folder / f"slice{number:04d}.dcm",
            RescaleSlope=slope,
            RescaleIntercept=intercept,
            PixelRepresentation=sign,
            PixelData=np.tile(numbers, 64).astype("<i8").astype("<u2").tobytes(),
        )
        if is_packed:
            pack(folder / f"slice{number:04d}.dcm")
    return read_ct(folder, series_instance_uid=UID).hounsfield[:, 15, 12:].tolist()


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
@pytest.mark.parametrize("is_packed", [False, True])
def test_slope_and_intercept_of_a_series_count(tmp_path, slope, intercept, expected, is_packed):
    assert write_stored(tmp_path, [(slope, intercept)] * 3, is_packed=is_packed) == [expected] * 3


@pytest.mark.parametrize("is_packed", [False, True])
def test_slope_and_intercept_of_each_slice_count(tmp_path, is_packed):
    stored = [(24, 1024, 1064, 2024), (0, 2000, 2081, 4001), (0, 50, 52, 100)]
    rescales = [("1", "-1024"), ("0.5", "-1000"), ("20", "-1000")]
    assert write_stored(tmp_path, rescales, stored=stored, is_packed=is_packed) == [
        [-1000, 0, 40, 1000],
        # 40.5: halves to even.
        [-1000, 0, 40, 1000],
        [-1000, 0, 40, 1000],
    ]


@pytest.mark.parametrize("is_packed", [False, True])
def test_signed_and_unsigned_slices_may_be_mixed(tmp_path, is_packed):
    stored = [(24, 1024, 1064, 2024), (-1000, 0, 40, 1000), (1047, 2047, 2087, 3047)]
    rescales = [("1", "-1024"), ("1", "0"), ("1", "-2047")]
    read = write_stored(tmp_path, rescales, stored=stored, signs=(0, 1, 0), is_packed=is_packed)
    assert read == [[-1000, 0, 40, 1000]] * 3


@pytest.mark.parametrize("other", [("2", "-1024"), ("1.1", "-1024"), ("1", "0"), ("-1", "-1024")])
def test_a_rescale_that_differs_between_slices_without_reason_is_refused_by_both(tmp_path, other):
    stored = [(24, 1024, 1064, 2024), (25, 1020, 1070, 2000), (20, 1030, 1060, 2030)]
    with pytest.raises(UnreadableCtError, match=r"only if HU then agree.*slice0002.dcm and slice0003.dcm"):
        write_stored(tmp_path, [("1", "-1024"), other, other], stored=stored)


@pytest.mark.parametrize("is_signed", [0, 1])
@pytest.mark.parametrize("num_bits", [10, 12, 15, 16])
@pytest.mark.parametrize("intercept", ["0", "-1024"])
def test_only_the_bits_in_use_count_as_in_itk(tmp_path, is_signed, num_bits, intercept):
    anything = np.random.default_rng(0).integers(0, 65536, size=80).astype("<u2").tobytes()
    storage = {"PixelRepresentation": is_signed, "BitsStored": num_bits, "HighBit": num_bits - 1}
    tags = storage | {"RescaleIntercept": intercept, "PixelData": anything}
    folder = write_dicom_series(tmp_path, UID, random_hounsfield((3, 8, 10)), tags=tags)
    ct = read_ct(folder, series_instance_uid=UID)
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "slice0001.dcm")))
    np.testing.assert_array_equal(ct.hounsfield[2:], theirs.clip(-32768, 32767))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_any_transfer_syntax_gives_the_same(folder, syntax):
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, dtype="<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        is_little, is_implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
        pydicom.dcmwrite(path, dataset, little_endian=is_little, implicit_vr=is_implicit)
    assert_series_is_whole(folder)


def test_compressed_slices_give_the_same(folder):
    for path in sorted(folder.iterdir())[:4]:
        pack(path)
    assert_series_is_whole(folder)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize(("names", "words"), [(None, "slice0001.dcm,"), (("slice0004.dcm",), "slice0004.dcm,")])
def test_a_slice_without_a_rescale_is_refused_by_name(folder, keyword, names, words):
    for path in sorted(folder.iterdir()) if names is None else [folder / name for name in names]:
        dataset = pydicom.dcmread(path)
        del dataset[keyword]
        dataset.save_as(path)
    assert f"{keyword} must be in the header, got none ({words} series {UID})" in reason_of(folder)


def test_slices_that_lost_their_rescale_are_counted(folder):
    for path in sorted(folder.iterdir())[1::2]:
        dataset = pydicom.dcmread(path)
        del dataset.RescaleIntercept
        dataset.save_as(path)
    assert "must be in the header, got none (slice0002.dcm; 3 of 6 slices, series" in reason_of(folder)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"RescaleSlope": "0"}, "RescaleSlope must not be 0"),
        ({"RescaleType": "OD"}, "RescaleType must be HU, got 'OD'"),
        ({"RescaleType": "Z_EFF"}, "got 'Z_EFF'"),
        ({"RescaleType": "HU_MOD"}, "got 'HU_MOD'"),
    ],
)
def test_what_is_not_hounsfield_is_refused_by_its_attribute(tmp_path, tags, words):
    assert words in reason_of(write_dicom_series(tmp_path, UID, random_hounsfield(), tags=tags))


@pytest.mark.parametrize("unit", ["HU", "US", "hu", ""])
def test_other_words_for_hounsfield_are_taken(tmp_path, unit):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield(), tags={"RescaleType": unit})
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, random_hounsfield())


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
