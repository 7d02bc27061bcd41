"""What a header claims is checked before memory is taken; a malformed file costs its own series alone."""

import io
import struct
import time
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.formats import dicom_files
from luna_pipeline.core.ct.formats.dicom_files import is_dicom_file
from luna_pipeline.core.ct.formats.dicom_series import DicomReader
from luna_pipeline.core.ct.reading import UnreadableCtError, read_ct
from luna_pipeline_tests.phantoms import edit_dicom, random_hounsfield, write_dicom_series

UID, GOOD_UID = "1.2.3", "1.2.4"
PIXELS = b"\xe0\x7f\x10\x00"
# A sequence and its first item, both without a length.
NESTED = b"\x40\x00\x60\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"


@pytest.fixture
def folder(tmp_path):
    write_dicom_series(tmp_path / "good", GOOD_UID, random_hounsfield())
    return write_dicom_series(tmp_path / "bad", UID, random_hounsfield())


def reason_of(folder):
    """Return why the series is refused; the other one of the data root is read."""
    began = time.monotonic()
    rows = catalogue_series(folder.parent, patient_key=b"key").set_index("series_instance_uid")
    assert rows.is_readable.to_dict() == {UID: False, GOOD_UID: True}
    assert time.monotonic() - began < 20
    assert "\n" not in rows.reason[UID]
    return rows.reason[UID]


def insert_before_pixels(path, content):
    held = path.read_bytes()
    place = held.rindex(PIXELS)
    path.write_bytes(held[:place] + content + held[place:])


def deflate(path, *parts):
    """Write a deflated file of these parts of a data set."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", 22) + DeflatedExplicitVRLittleEndian.encode()
    path.write_bytes(bytes(128) + b"DICM" + meta + b"".join([*map(packer.compress, parts), packer.flush()]))


def header_of(path):
    """Return the bytes of a file's data set before the pixels, explicit little endian."""
    written = io.BytesIO()
    Dataset(pydicom.dcmread(path)).save_as(written, implicit_vr=False, little_endian=True)
    return written.getvalue()[: written.getvalue().rindex(PIXELS)]


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"NumberOfFrames": 30_000_000}, "NumberOfFrames must be 1 to 20000, got 30000000"),
        ({"NumberOfFrames": 2_000_000_000}, "got 2000000000"),
        ({"NumberOfFrames": -1}, "got -1"),
        ({"Rows": 65535, "Columns": 65535}, "at most 1 GiB of voxels, got 8589672450 bytes announced"),
        (
            {"Rows": 4000, "Columns": 4000},
            "PixelData must hold 32000000 bytes by Rows, Columns and BitsAllocated, got 160",
        ),
        ({"Rows": 4}, "must hold 80 bytes by Rows, Columns and BitsAllocated, got 160"),
        ({"Rows": 0}, "An image must have pixels"),
        ({"BitsStored": 20, "HighBit": 19}, "BitsStored must be 1 to 16, got 20"),
        ({"BitsStored": 12, "HighBit": 15}, "HighBit must be BitsStored - 1 = 11, got 15"),
        ({"PixelRepresentation": 2}, "PixelRepresentation must be 0 or 1, got 2"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "got 'PALETTE COLOR'"),
        ({"RescaleIntercept": "1e999"}, "RescaleIntercept must be a finite number, got '1e999"),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_what_a_header_claims_is_checked_first(folder, tags, words, is_packed):
    path = folder / "slice0002.dcm"
    if is_packed:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
        words = words.split(" by Rows")[0].replace("PixelData must hold", "Packed voxels must be able to fill")
    edit_dicom(path, **tags)
    if is_packed and tags == {"Rows": 4}:
        # Known only when it is unpacked.
        return
    reason = reason_of(folder)
    assert words in reason
    assert "slice0002.dcm" in reason


@pytest.mark.parametrize(
    ("keyword", "vr", "text"),
    [
        ("PixelSpacing", "LO", "0,703125\\0,703125"),
        ("PixelSpacing", "LO", "0.7"),
        ("PixelSpacing", "LO", "0.7\\0.7\\0.7"),
        ("ImagePositionPatient", "LO", "1\\2\\nan"),
        ("ImageOrientationPatient", "LO", "1\\0\\0\\0\\1_0\\0"),
        ("RescaleSlope", "LO", "NaN"),
        ("RescaleIntercept", "LO", "-1.024,0"),
        ("Rows", "LO", "abc"),
        ("NumberOfFrames", "LO", "abc"),
    ],
)
def test_an_attribute_that_is_no_number_is_refused_with_its_text(folder, keyword, vr, text):
    dataset = pydicom.dcmread(folder / "slice0002.dcm")
    dataset.add_new(keyword, vr, text.split("\\"))
    dataset.save_as(folder / "slice0002.dcm")
    reason = reason_of(folder)
    assert f"{keyword} must be" in reason
    assert repr(text)[1:-1] in reason


@pytest.mark.parametrize("vr", ["UT", "LO", "FD"])
def test_numbers_in_another_representation_are_read(folder, vr):
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.add_new(
            "PixelSpacing", vr, "0.75\\0.5" if vr == "UT" else [0.75, 0.5] if vr == "FD" else ["0.75", "0.5"]
        )
        dataset.save_as(path)
    assert read_ct(folder, series_instance_uid=UID).grid.spacing_mm == (0.5, 0.75, 2.5)


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_deep_sequences_are_refused(folder, depth):
    insert_before_pixels(folder / "slice0002.dcm", NESTED * depth)
    assert "slice0002.dcm (series 1.2.3): maximum recursion depth exceeded" in reason_of(folder)


def test_millions_of_items_are_refused(folder, monkeypatch):
    monkeypatch.setattr(dicom_files, "_MAX_READS", 10_000)
    insert_before_pixels(folder / "slice0002.dcm", NESTED[:12] + EMPTY_ITEM * 1_100_000)
    assert "at most 10000 elements" in reason_of(folder)


def test_more_items_than_frames_can_have_are_refused(folder):
    items = EMPTY_ITEM * 100_000
    insert_before_pixels(folder / "slice0002.dcm", b"\x00\x52\x30\x92SQ\0\0" + struct.pack("<I", len(items)) + items)
    assert "PerFrameFunctionalGroupsSequence must have at most 1000 items for 1 frames, got 100000" in reason_of(folder)


def test_a_deflated_bomb_is_not_unpacked(folder):
    path = folder / "slice0002.dcm"
    header = header_of(path)
    deflate(path, header, PIXELS + b"OW\0\0" + struct.pack("<I", 160), bytes(200))
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield[4], -1024)
    zeros = [bytes(1 << 24)] * 8
    deflate(path, header, b"\x09\x00\x10\x00UT\0\0" + struct.pack("<I", 1 << 30), *zeros)
    assert "a deflated header must have at most 67108864 bytes, got more" in reason_of(folder)
    deflate(path, *zeros)
    assert "must begin with a data element, got zeros" in reason_of(folder)


def test_a_torn_deflated_file_is_refused(folder):
    path = folder / "slice0002.dcm"
    deflate(path, header_of(path), PIXELS + b"OW\0\0" + struct.pack("<I", 160), np.arange(80, dtype="<u2").tobytes())
    path.write_bytes(path.read_bytes()[:-60])
    assert "slice0002.dcm (series 1.2.3): PixelData must hold 160 bytes, got" in reason_of(folder)


@pytest.mark.parametrize("num_bytes", [1 << 20, 1 << 32])
def test_a_sparse_file_is_refused_at_once(folder, num_bytes):
    with (folder / "sparse.dcm").open("wb") as file:
        file.truncate(num_bytes)
    assert "sparse.dcm (series 1.2.3): a data set must begin with a data element, got zeros" in reason_of(folder)


def test_a_false_claim_of_big_endian_is_refused_by_its_name(folder):
    path = folder / "slice0002.dcm"
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", ExplicitVRBigEndian.encode() + b"\0"))
    assert "got the end of the file (Explicit VR Big Endian)" in reason_of(folder)


def test_explicit_elements_under_an_implicit_syntax_are_read(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"))
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, random_hounsfield())


@pytest.mark.parametrize("kind", ["implicit", "explicit", "meta"])
def test_old_files_without_preamble_and_suffix_are_found(folder, kind):
    for number, path in enumerate(sorted(folder.iterdir())):
        old = folder / f"IM{number:05d}"
        if kind == "meta":
            old.write_bytes(path.read_bytes()[132:])
        else:
            Dataset(pydicom.dcmread(path)).save_as(old, implicit_vr=kind == "implicit", little_endian=True)
        path.unlink()
    rows = catalogue_series(folder.parent, patient_key=b"key").set_index("series_instance_uid")
    assert rows.is_readable.to_dict() == {UID: True, GOOD_UID: True}
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, random_hounsfield())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x00",
        bytes(600),
        b"\x08\x00\x00\x00" + b"\xff" * 600,
        b"\x08\x00\x08\x00CS\xff\xff" + bytes(600),
        b"\x08\x00\x08\x00CS\x04\x00ABCDnothing of DICOM follows" + bytes(600),
        b"\x89PNG\r\n\x1a\n" + bytes(600),
        b"seriesuid,coordX,coordY,coordZ,class\n" * 20,
        b"<?xml version='1.0'?>" * 40,
        b"DICM" + bytes(600),
    ],
)
def test_other_files_are_not_taken_for_old_ones(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert not is_dicom_file(tmp_path / "file")


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"Modality": "SEG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "Segmentation, modality SEG"),
        ({"Modality": "RTDOSE", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}, "RT Dose, modality RTDOSE"),
        ({"Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"}, "Image, modality PT"),
        ({"Modality": "MR"}, "modality MR"),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "SCOUT"], "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
            "a localizer",
        ),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "TOPOGRAM"]}, "a localizer"),
    ],
)
@pytest.mark.parametrize("has_pixels", [True, False])
def test_other_objects_with_the_uid_of_a_ct_cost_it_nothing(folder, tags, why, has_pixels):
    if "Modality" in tags and "SOPClassUID" not in tags and not has_pixels:
        pytest.skip("A file that says it is a CT image, without pixels, is a torn slice.")
    dataset = pydicom.dcmread(folder / "slice0002.dcm")
    dataset.SOPInstanceUID = f"{UID}.99"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    if not has_pixels:
        del dataset.PixelData, dataset.Rows
    dataset.save_as(folder / "other.dcm")
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, random_hounsfield())
    (note,) = DicomReader(folder, UID).series.notes
    assert "other.dcm" in note
    assert why in note


def test_a_uid_that_is_padded_with_blanks_is_the_uid(folder):
    for path in folder.iterdir():
        content = path.read_bytes()
        place = content.index(b"\x20\x00\x0e\x00UI")
        path.write_bytes(content[: place + 6] + b"\x08\0 1.2.3  " + content[place + 14 :])
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, random_hounsfield())


def test_an_empty_folder_of_dicom_is_refused(tmp_path):
    with pytest.raises(UnreadableCtError, match="got none"):
        read_ct(tmp_path, series_instance_uid=UID)
