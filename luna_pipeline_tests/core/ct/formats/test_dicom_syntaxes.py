"""One CT gives the same HU in every transfer syntax; what does not unpack fails its series alone."""

import itertools
import struct

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
)

from luna_pipeline.core.ct.formats import dicom_unpacking, dicom_voxels
from luna_pipeline.core.ct.formats.dicom_decoder import decoded_frames, parse_codestream
from luna_pipeline.core.ct.reading import UnreadableCtError, read_ct
from luna_pipeline_tests.core.ct.formats.dicom_packing import WRITERS, unsigned_jpeg_2000
from luna_pipeline_tests.phantoms import edit_dicom, random_hounsfield, write_dicom_series

UID = "1.2.3"
PACKED = [name for name in WRITERS if name.startswith(("RLE", "JPEG"))]


def decode_here(files, *, series_instance_uid):
    del series_instance_uid
    return itertools.chain.from_iterable(map(decoded_frames, files))


@pytest.fixture
def in_process(monkeypatch):
    """Unpack without a process of its own: half a second less a test."""
    monkeypatch.setattr(dicom_voxels, "decode_in_process", decode_here)


def write_stored(folder, hounsfield, *, num_bits, is_signed, padding=None, **tags):
    """Write HU as stored numbers of so many bits, with padding in the first two rows."""
    intercept = 0 if is_signed else -1024
    stored = hounsfield.astype(np.int64) - intercept
    if padding is not None:
        stored[:, :2] = padding
        tags["PixelPaddingValue"] = padding & 0xFFFF
    words = (stored & ((1 << num_bits) - 1)) if padding is None or padding < 1 << num_bits else stored
    write_dicom_series(
        folder,
        UID,
        hounsfield,
        tags={
            "PixelRepresentation": int(is_signed),
            "BitsStored": num_bits,
            "HighBit": num_bits - 1,
            "RescaleIntercept": str(intercept),
            **tags,
        },
    )
    for path, image in zip(sorted(folder.iterdir(), reverse=True), words, strict=True):
        edit_dicom(path, PixelData=image.astype("<u2").tobytes())
    return folder


def reason_of(folder):
    with pytest.raises(UnreadableCtError) as caught:
        read_ct(folder, series_instance_uid=UID)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pack_as(path, syntax, *frames):
    """Replace the pixels of a file by packed frames as they are given."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(list(frames))
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("has_padding", [False, True])
@pytest.mark.parametrize("num_bits", [12, 16])
@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("display", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("syntax", WRITERS)
def test_hounsfield_are_those_that_were_written(tmp_path, syntax, display, is_signed, num_bits, has_padding):
    expected = random_hounsfield((3, 16, 16), seed=num_bits)
    # The largest number, which no tissue has.
    padding = (1 << (num_bits - is_signed)) - 1 if has_padding else None
    folder = write_stored(
        tmp_path, expected, num_bits=num_bits, is_signed=is_signed, padding=padding, PhotometricInterpretation=display
    )
    for path in folder.iterdir():
        WRITERS[syntax](path)
    if has_padding:
        expected[:, :2] = -2048
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, expected)


@pytest.mark.parametrize("syntax", PACKED)
def test_packed_slices_are_unpacked_by_a_process_of_their_own(tmp_path, syntax):
    folder = write_stored(tmp_path, random_hounsfield((3, 16, 16)), num_bits=16, is_signed=False)
    for path in sorted(folder.iterdir())[:2]:
        WRITERS[syntax](path)
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, random_hounsfield((3, 16, 16)))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("is_signed", [False, True])
def test_an_unsigned_jpeg_2000_of_signed_pixels_holds_two_s_complement(tmp_path, is_signed):
    folder = write_stored(tmp_path, random_hounsfield((3, 16, 16)), num_bits=16, is_signed=is_signed)
    for path in folder.iterdir():
        unsigned_jpeg_2000(path)
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, random_hounsfield((3, 16, 16)))


def test_a_jpeg_2000_of_other_sign_and_bits_is_refused(tmp_path):
    folder = write_stored(tmp_path, random_hounsfield((3, 16, 16)), num_bits=16, is_signed=True)
    for path in folder.iterdir():
        WRITERS["JPEG 2000"](path)
        edit_dicom(path, PixelRepresentation=0)
    assert "must have the sign of PixelRepresentation 0, got signed numbers of 16 bits" in reason_of(folder)


@pytest.mark.parametrize("syntax", ["explicit", "RLE", "deflated", "big endian"])
@pytest.mark.parametrize("num_bits", [12, 16])
def test_padding_that_needs_more_bits_than_measurements_is_told_by_all_of_them(tmp_path, in_process, syntax, num_bits):
    expected = random_hounsfield((3, 16, 16))
    # 63536 is -2000 in 16 bits, and 2096 in the lower 12 of them.
    expected[:, 5, 5] = 2096 - 1024
    folder = write_stored(tmp_path, expected, num_bits=num_bits, is_signed=False, padding=63536)
    for path in folder.iterdir():
        WRITERS[syntax](path)
    expected[:, :2] = -2048
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, expected)


@pytest.mark.parametrize(
    ("value", "limit", "expected"),
    [
        # In signed pixels 63536 is -2000: below air, it stays.
        (63536, None, [-2000, 0, 40, 100, 3000]),
        (0, None, [-2000, -2048, 40, 100, 3000]),
        (40, 100, [-2000, 0, -2048, -2048, 3000]),
        (100, 40, [-2000, 0, -2048, -2048, 3000]),
        (3000, 32767, [-2000, 0, 40, 100, -2048]),
        (None, None, [-2000, 0, 40, 100, 3000]),
    ],
)
def test_padding_is_a_number_or_a_range_with_the_sign_of_the_pixels(tmp_path, value, limit, expected):
    hounsfield = np.full((3, 16, 16), -1000, dtype=np.int16)
    hounsfield[:, 0, 2:12:2] = [-2000, 0, 40, 100, 3000]
    folder = write_stored(tmp_path, hounsfield, num_bits=16, is_signed=True)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        for keyword, number in (("PixelPaddingValue", value), ("PixelPaddingRangeLimit", limit)):
            if number is not None:
                dataset.add_new(keyword, "US", number)
        dataset.save_as(path)
    assert read_ct(folder, series_instance_uid=UID).hounsfield[1, 0, 2:12:2].tolist() == expected


def test_tissue_with_the_number_of_the_padding_stays(tmp_path):
    expected = np.full((3, 16, 16), -900, dtype=np.int16)
    expected[:, 6:9, 6:9] = 0
    folder = write_stored(tmp_path, expected, num_bits=16, is_signed=True, padding=0)
    expected[:, :2] = -2048
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, expected)


@pytest.mark.parametrize("syntax", [JPEGExtended12Bit, HTJ2KLossless])
def test_an_unknown_syntax_is_refused_by_its_name(tmp_path, syntax):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield())
    pack_as(folder / "slice0002.dcm", syntax, b"\xff\xd8\xff\xc1")
    assert f"got {syntax.name} (slice0002.dcm, series {UID})" in reason_of(folder)


def test_a_lossy_ct_is_read_and_noted(tmp_path):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield(), tags={"LossyImageCompression": "01"})
    from luna_pipeline.core.ct.formats.dicom_series import DicomReader

    reader = DicomReader(folder, UID)
    np.testing.assert_array_equal(reader.voxels(), random_hounsfield())
    assert reader.series.notes == ["6 of 6 slices were compressed with loss: HU may be inexact."]


def huge_jpeg_2000(num_rows, num_cols):
    """The header of a codestream that announces a large image."""
    size = struct.pack(">HH8IHBBB", 41, 0, num_cols, num_rows, 0, 0, num_cols, num_rows, 0, 0, 1, 15, 1, 1)
    return b"\xff\x4f\xff\x51" + size + bytes(1000)


@pytest.mark.parametrize(
    ("syntax", "packed", "words"),
    [
        (JPEG2000Lossless, huge_jpeg_2000(60_000, 60_000), "size_rc=(60000, 60000)"),
        (JPEG2000Lossless, b"garbage!", "must begin with its header, got b'garbage!'"),
        (JPEGLSLossless, b"\xff\xd8\xff\xf7\x00\x0b\x10\xff\xff\xff\xff\x01" + bytes(100), "size_rc=(65535, 65535)"),
        (JPEGLSLossless, b"\xff\xd8\xff\xf7\x00\x0b\x10\x00\x08\x00\x0a\x03" + bytes(100), "num_channels=3"),
    ],
)
def test_a_frame_that_is_no_such_image_is_refused_before_it_is_unpacked(tmp_path, in_process, syntax, packed, words):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield())
    pack_as(folder / "slice0002.dcm", syntax, packed)
    with pytest.raises(ValueError, match="must") as caught:
        read_ct(folder, series_instance_uid=UID)
    assert words in str(caught.value)


def test_a_frame_that_does_not_unpack_is_refused_by_its_file(tmp_path):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield())
    pack_as(folder / "slice0002.dcm", JPEG2000Lossless, huge_jpeg_2000(8, 10))
    reason = reason_of(folder)
    assert "Packed frames must unpack" in reason
    assert f"slice0002.dcm, series {UID}" in reason


@pytest.mark.parametrize("packed", [b"", b"\xff\xd8", b"\xff\xd8\xff\xff\xff\xff", b"\xff\x4f\xff\x51\0", bytes(50)])
def test_the_header_of_a_frame_is_searched_within_its_bytes(packed):
    with pytest.raises(ValueError, match="must begin with its header"):
        parse_codestream(packed)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "a decoder that crashes (SIGSEGV)"),
        ("import sys; sys.exit(3)", "too few frames"),
        ("import os, signal; signal.alarm(1); import time; time.sleep(60)", "a decoder that needs more than 30 s"),
        ("import sys; print('noise', 'torn stream.', sep='\\n', file=sys.stderr)", "got: torn stream (slice"),
    ],
)
def test_a_decoder_that_dies_fails_its_series(tmp_path, monkeypatch, program, words):
    folder = write_dicom_series(tmp_path / "data", UID, random_hounsfield())
    WRITERS["RLE"](folder / "slice0002.dcm")
    (tmp_path / "decoder.py").write_text(program)
    monkeypatch.setattr(dicom_unpacking, "_PROGRAM", tmp_path / "decoder.py")
    assert words in reason_of(folder)


def test_a_decoder_that_needs_too_much_memory_fails_its_series(tmp_path, monkeypatch):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield())
    WRITERS["RLE"](folder / "slice0002.dcm")
    monkeypatch.setattr(dicom_unpacking, "_NUM_START_BYTES", 50 << 20)
    assert f"(slice0002.dcm, series {UID})" in reason_of(folder)


def test_the_working_folder_cannot_replace_a_module_of_the_decoder(tmp_path, monkeypatch):
    folder = write_dicom_series(tmp_path / "data", UID, random_hounsfield())
    WRITERS["RLE"](folder / "slice0002.dcm")
    (tmp_path / "pydicom.py").write_text("raise SystemExit('replaced')")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_ct(folder, series_instance_uid=UID).hounsfield, random_hounsfield())


def test_packed_pixels_under_a_syntax_of_plain_ones_are_refused(tmp_path):
    folder = write_dicom_series(tmp_path, UID, random_hounsfield())
    path = folder / "slice0002.dcm"
    pack_as(path, JPEGLSLossless, b"\xff\xd8\xff\xf7")
    old, new = JPEGLSLossless.encode().ljust(22, b"\0"), ExplicitVRLittleEndian.encode().ljust(22, b"\0")
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    assert "must have a length, got none" in reason_of(folder)
