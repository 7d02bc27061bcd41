"""What is missing, malformed or contradictory in a header is refused before voxels are read: by key, with its text."""

import gzip
import os
import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.formats.stored_voxels import StoredReader
from luna_pipeline.core.ct.reading import UnreadableCtError, open_ct, read_ct
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

UID = "1.2.3"
VOXELS = np.arange(24, dtype="<i2") * 40 - 500
METAIMAGE = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "Offset": "1.5 -2 30",
    "ElementSpacing": "0.7 0.8 1.25",
    "DimSize": "4 3 2",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "voxels.raw",
}
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "LPS",
    "sizes": "4 3 2",
    "space directions": "(0.7,0,0) (0,0.8,0) (0,0,1.25)",
    "space origin": "(1.5,-2,30)",
    "endian": "little",
    "encoding": "raw",
    "data file": "voxels.raw",
}


def write_fields(folder, fields, *, suffix=".mhd", first="", separator=" = "):
    """Write a header whose fields are those that are not None; the data file is the last."""
    (folder / "voxels.raw").write_bytes(VOXELS.tobytes())
    lines = [f"{key}{separator}{text}" for key, text in fields.items() if text is not None]
    lines.sort(key=lambda line: line.startswith("ElementDataFile"))
    path = folder / f"{UID}{suffix}"
    path.write_bytes((first + "\n".join(lines) + "\n").encode("latin-1"))
    return path


def metaimage(folder, changed):
    return write_fields(folder, METAIMAGE | changed)


def nrrd(folder, changed):
    return write_fields(folder, NRRD | changed, suffix=".nhdr", first="NRRD0004\n", separator=": ")


def nifti(folder, *changes, suffix=".nii", voxels=None):
    """Write a NIfTI of 4 x 3 x 2 int16 with a qform; each change is (struct's code, offset, values)."""
    head = bytearray(352)
    usual = [("i", 0, 348), ("8h", 40, 3, 4, 3, 2, 1, 1, 1, 1), ("2h", 70, 4, 16), ("4f", 76, 1, 0.7, 0.8, 1.25)]
    usual += [("f", 108, 352), ("2f", 112, 1, 0), ("B", 123, 2), ("2h", 252, 1, 0), ("3f", 268, 1.5, -2, 30)]
    usual += [("12f", 280, 0.7, 0, 0, 1.5, 0, 0.8, 0, -2, 0, 0, 1.25, 30), ("4s", 344, b"n+1\0")]
    for code, offset, *values in (*usual, *changes):
        struct.pack_into(f"<{code}", head, offset, *values)
    content = bytes(head) + (VOXELS.tobytes() if voxels is None else voxels)
    path = folder / f"{UID}{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    return path


def refusal_of(path):
    """Return the message with which the headers alone are refused."""
    with pytest.raises(UnreadableCtError) as caught:
        open_ct(path, series_instance_uid=UID).grid()
    message = str(caught.value)
    assert "\n" not in message
    assert ", got " in message
    assert f"({path.name}" in message or f"series {UID})" in message
    return message


def test_the_headers_without_a_fault_are_read(tmp_path):
    for path in (metaimage(tmp_path, {}), nrrd(tmp_path, {}), nifti(tmp_path)):
        ct = read_ct(path, series_instance_uid=UID)
        assert ct.hounsfield.ravel().tolist() == VOXELS.tolist()
        assert ct.grid.spacing_mm == pytest.approx((0.7, 0.8, 1.25))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *((key, None) for key in METAIMAGE if key != "ObjectType"),
        ("ObjectType", "Mesh"),
        *(("NDims", text) for text in ("2", "4", "-3", "2147483648", "three", "3.0", "")),
        *(("BinaryData", text) for text in ("False", "Yes", "")),
        *(("Offset", text) for text in ("1,5 -2 30", "1.5, -2, 30", "1.5 -2", "1.5 -2 30 1", "nan 0 0", "1e999 0 0")),
        *(("ElementSpacing", text) for text in ("0,7 0,8 1,25", "0.7 0.8", "1_0 1 1", "\xb2 1 1", "0x1 1 1", "? ? ?")),
        ("ElementSize", "1,5 1 1"),
        *(("DimSize", text) for text in ("4 3", "4 3 2 1", "4 3 0", "4 -3 2", "4 3 2.0", "4,3,2", "4 3 nan")),
        ("DimSize", "9" * 30 + " 1 1"),
        *(("ElementType", text) for text in ("MET_STRANGE", "short", "")),
        *(("HeaderSize", text) for text in ("NaN", "-2", "two", "1e3", "1.0")),
        *(("ElementNumberOfChannels", text) for text in ("0", "one")),
        *(("CompressedData", text) for text in ("perhaps", "")),
        *(("TransformMatrix", text) for text in ("1 0 0", "1,0 0 0 0 1 0 0 0 1", "nan 0 0 0 1 0 0 0 1")),
        *(("ElementToIntensityFunctionSlope", text) for text in ("2", "0", "1,0", "-1", "x")),
        *(("ElementToIntensityFunctionOffset", text) for text in ("-1024", "0.5", "nan")),
        *(("ElementDataFile", text) for text in ("LIST", "LIST 2D", "v%03d.raw 1 2 1", "../voxels.raw", "/etc/passwd")),
        *(
            ("ElementDataFile", text)
            for text in ("", ".", "a/../../b.raw", "C:\\ct\\voxels.raw", "v\0.raw", f"{UID}.mhd")
        ),
    ],
)
def test_metaimage_fields_are_refused_by_key_with_their_text(tmp_path, key, text):
    message = refusal_of(metaimage(tmp_path, {key: text} | ({"ElementSpacing": None} if key == "ElementSize" else {})))
    assert key in message
    assert "got none (" in message if text is None else repr(text)[1:20] in message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"Position": "4 5 6"}, "Offset and Position must be equal"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 1", "Rotation": "0 1 0 1 0 0 0 0 1"}, "TransformMatrix and Rotation"),
        ({"BinaryDataByteOrderMSB": "False", "ElementByteOrderMSB": "True"}, "must be equal"),
        ({"Offset": None, "offset": "1 2 3"}, "The key Offset must be written so"),
        ({"transformmatrix": "0 1 0 1 0 0 0 0 1"}, "The key TransformMatrix must be written so"),
        ({"Offset ": "4 5 6"}, "The key Offset must be written so, and only once"),
        ({"Transf\xffrmMatrix": "0 1 0 1 0 0 0 0 1"}, "Each line of a MetaImage header"),
        ({"CompressedData": "True", "HeaderSize": "-1"}, "HeaderSize must be 0 or positive for compressed voxels"),
        ({"CompressedData": "True", "CompressedDataSize": "-5"}, "CompressedDataSize must be a whole number from 1 on"),
        ({"CompressedData": "True", "CompressedDataSize": "1e9"}, "CompressedDataSize"),
        ({"CompressedData": "True", "CompressedDataSize": "999"}, "must fill 999 bytes, got 48"),
        ({"CompressedData": "True", "DimSize": "2000 2000 2000"}, "at most 1 GiB of voxels, got 16000000000 bytes"),
        ({"CompressedData": "True", "DimSize": "200 200 20"}, "must be able to fill 1600000 bytes, got 48"),
        ({"HeaderSize": "4"}, "must fill 48 bytes, got 44"),
        ({"HeaderSize": "4000"}, "must fill 48 bytes, got -3952"),
        ({"ElementDataFile": "LOCAL", "HeaderSize": "5"}, "HeaderSize must be the header's"),
        ({"ElementDataFile": "LOCAL", "CompressedData": "True"}, "CompressedDataSize must be in the header"),
        ({"ElementDataFile": "."}, "the name of a file in the header's folder or below"),
        ({"ElementDataFile": "other.raw"}, "got no such file (other.raw"),
        ({"ElementNumberOfChannels": "3"}, "one number of 16 bits or more per voxel, got 3 of MET_SHORT"),
        ({"ElementType": "MET_UCHAR"}, "one number of 16 bits or more per voxel"),
        ({"ElementSpacing": "0.7 0.7 0"}, "Spacing must be three positive lengths"),
        ({"ElementSpacing": "0.0008 0.0008 0.002"}, "Spacing of a CT must be from 0.05 to 20 mm, got (0.0008"),
        ({"ElementSpacing": "855 855 2500"}, "Spacing of a CT must be from 0.05 to 20 mm, got (855"),
        ({"Offset": "150000 0 0"}, "Origin of a CT must be within 10000 mm, got (150000"),
        ({"TransformMatrix": "1 0.2 0 0 1 0 0 0 1"}, "Direction must be"),
    ],
)
def test_metaimages_that_contradict_themselves_are_refused(tmp_path, changed, words):
    assert words in refusal_of(metaimage(tmp_path, changed))


def test_a_name_in_utf_8_is_found(tmp_path):
    path = metaimage(tmp_path, {"ElementDataFile": "M\u00fcller.raw".encode().decode("latin-1")})
    (tmp_path / "voxels.raw").rename(tmp_path / "M\u00fcller.raw")
    assert read_ct(path, series_instance_uid=UID).hounsfield[0, 0, 0] == -500


def test_a_header_without_an_end_is_refused(tmp_path):
    path = tmp_path / f"{UID}.mhd"
    path.write_bytes(b"Comment = abcde\n" * 200_000)
    assert "ElementDataFile must be in a MetaImage header" in refusal_of(path)
    path.write_bytes(b"A" * 3_000_000)
    assert "'key = value'" in refusal_of(path)


@pytest.mark.parametrize("key", ["DimSize", "Offset", "ElementSpacing"])
def test_a_vector_before_the_number_of_dimensions_is_refused_as_by_itk(tmp_path, key):
    path = write_fields(tmp_path, {key: METAIMAGE[key]} | METAIMAGE)
    assert f"NDims must come before {key}" in refusal_of(path)
    with pytest.raises(RuntimeError):
        sitk.ReadImage(str(path))


def test_voxels_in_a_fifo_are_refused_at_once(tmp_path):
    path = metaimage(tmp_path, {})
    (tmp_path / "voxels.raw").unlink()
    os.mkfifo(tmp_path / "voxels.raw")
    assert "got a FIFO" in refusal_of(path)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *((key, None) for key in NRRD if key != "data file"),
        *(("type", text) for text in ("block", "long", "half", "")),
        *(("dimension", text) for text in ("2", "4", "-3", "three")),
        *(("sizes", text) for text in ("4 3", "4 3 2 1", "4 3 0", "4 3 -2", "4,3,2")),
        *(("encoding", text) for text in ("ascii", "text", "hex", "bzip2", "")),
        *(("endian", text) for text in ("middle", "")),
        ("space dimension", "3"),
        *(("space", text) for text in ("scanner-xyz", "3D-right-handed", "LPST", "RPS", "")),
        *(("space directions", text) for text in ("none none none", "(1,0,0) (0,1,0)", "(1,0) (0,1) (1,1)", "")),
        *(("space directions", text) for text in ("(nan,0,0) (0,1,0) (0,0,1)", "(0,7,0,0) (0,0,8,0) (0,0,1,25)")),
        *(("space origin", text) for text in ("none", "(1,2)", "(nan,0,0)", "1 2 3", "(1,2,3) (4,5,6)")),
        *(("spacings", text) for text in ("1 1 1", "0.7 nan nan", "0,7 0,8 1")),
        *(("kinds", text) for text in ("vector domain domain", "domain domain list", "domain domain")),
        *(("space units", text) for text in ('"um" "um" "um"', '"mm" "mm" "m"')),
        *(("old min", text) for text in ("-1000", "0")),
        *(("byte skip", text) for text in ("-2", "one", "1.0")),
        ("line skip", "3"),
        *(("data file", text) for text in ("LIST", "v%03d.raw 0 1 1", "/etc/passwd", "../voxels.raw", "")),
    ],
)
def test_nrrd_fields_are_refused_by_name_with_their_text(tmp_path, key, text):
    message = refusal_of(nrrd(tmp_path, {key: text}))
    assert key in message
    assert "got none (" in message if text is None else repr(text)[1:20] in message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sapce origin": "(1,2,3)"}, "Each line of a NRRD header"),
        ({"Type": "short"}, "The field type must be there once"),
        ({"encoding": "gzip"}, "got 48 bytes packed"),
        ({"encoding": "gzip", "byte skip": "4"}, "byte skip must be 0"),
        ({"byte skip": "4"}, "must fill 48 bytes, got 44"),
        ({"data file": "other.raw"}, "got no such file (other.raw"),
        ({"space directions": "(0,0,0) (0,1,0) (0,0,1)"}, "Spacing must be three positive lengths"),
        ({"space directions": "(1,0,0) (0.3,1,0) (0,0,1)"}, "Direction must be"),
        ({"space directions": "(855,0,0) (0,855,0) (0,0,1)"}, "Spacing of a CT must be"),
        ({"type": "uchar"}, "one number of 16 bits or more per voxel"),
    ],
)
def test_nrrds_that_contradict_themselves_are_refused(tmp_path, changed, words):
    sizes = {"sizes": "400 300 200"} if changed == {"encoding": "gzip"} else {}
    assert words in refusal_of(nrrd(tmp_path, changed | sizes))


@pytest.mark.parametrize("first", ["", "NRRD0006\n", "NRRD\n", "\n"])
def test_another_beginning_of_a_nrrd_is_refused(tmp_path, first):
    path = write_fields(tmp_path, NRRD, suffix=".nrrd", first=first, separator=": ")
    assert "A NRRD file must begin with" in refusal_of(path)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("i", 0, 540), "sizeof_hdr must be 348, of NIfTI-1, got 540, of NIfTI-2"),
        (("i", 0, 7), "sizeof_hdr must be 348"),
        (("4s", 344, b"ni1\0"), "magic must be 'n+1', of header and voxels in one file, got b'ni1"),
        (("4s", 344, b"\0\0\0\0"), "magic must be"),
        *((("h", 40, number), "dim must give three axes") for number in (2, 0, -3, 8)),
        *((("4h", 40, 4, 4, 3, number), "dim must give three axes") for number in (0, -2)),
        (("5h", 40, 4, 4, 3, 1, 2), "dim must give three axes, and 1 for every other, got (4, 4, 3, 1, 2"),
        (("2h", 70, 128, 24), "datatype and bitpix must be"),
        (("2h", 70, 4, 32), "datatype and bitpix must be"),
        (("2h", 70, 2, 8), "one number of 16 bits or more per voxel"),
        *((("f", 80, mm), f"pixdim must be three positive lengths, got ({mm}") for mm in (0.0, -0.5, NAN, INF)),
        *(
            (("f", 108, offset), f"vox_offset must be a whole number of bytes from 352 on, got {offset:g}")
            for offset in (0.0, 348.0, -352.0, INF, NAN, 352.5, 1e30)
        ),
        (("f", 108, 400), "must fill 48 bytes, got 0"),
        *((("2f", 112, *scale), "scl_slope must be") for scale in ((INF, 0), (NAN, 0), (1, NAN), (0, 5), (1e-38, 0))),
        *((("B", 123, unit), f"xyzt_units must be metre, mm, micrometre or unknown, got {unit}") for unit in (4, 7)),
        *((("2h", 252, *codes), f"got {codes}") for codes in ((0, 0), (-1, 0), (9, 1), (1, 4))),
        (("f", 76, 0.5), "pixdim[0] must be -1 or 1 with a qform, got 0.5"),
        (("3f", 256, 1, 1, 0), "quatern_b, _c and _d must be of a unit quaternion"),
        (("f", 256, NAN), "quatern_b"),
        (("f", 268, NAN), "Origin must be"),
        (("B", 123, 3), "Spacing of a CT must be from 0.05 to 20 mm, got (0.0006"),
        (("B", 123, 1), "Spacing of a CT must be from 0.05 to 20 mm, got (699"),
    ],
)
def test_nifti_fields_are_refused_by_name_with_their_value(tmp_path, change, words):
    for suffix in (".nii", ".nii.gz"):
        if "must fill" not in words or suffix == ".nii":
            assert words in refusal_of(nifti(tmp_path, change, suffix=suffix))


@pytest.mark.parametrize(
    ("srow", "codes", "words"),
    [
        ((0.7, 0, 0, 1.5, 0, 0.8, 0, -2, 0, 0, 1.25, 30.2), (1, 1), "alike within 0.1 mm, got 0.2 mm"),
        ((-0.7, 0, 0, 1.5, 0, 0.8, 0, -2, 0, 0, 1.25, 30), (1, 2), "alike within 0.1 mm, got 4.2 mm"),
        ((NAN,) * 12, (1, 1), "alike within 0.1 mm, got nan mm"),
        ((1.7, 0, 0, 1.5, 0, 0.8, 0, -2, 0, 0, 1.25, 30), (0, 1), "sform's spacing must be that of pixdim"),
        ((0,) * 12, (0, 1), "sform's spacing must be that of pixdim"),
        ((0.56, 0.2, 0, 1.5, 0.42, 0.774597, 0, -2, 0, 0, 1.25, 30), (0, 1), "Direction must be"),
    ],
)
def test_sheared_and_contradicting_places_of_a_nifti_are_refused(tmp_path, srow, codes, words):
    assert words in refusal_of(nifti(tmp_path, ("2h", 252, *codes), ("12f", 280, *srow)))


def test_voxels_of_a_nifti_that_are_not_finite_are_refused(tmp_path):
    values = np.linspace(-1000, 500, 24, dtype="<f4")
    values[5] = NAN
    path = nifti(tmp_path, ("2h", 70, 16, 32), voxels=values.tobytes())
    with pytest.raises(UnreadableCtError, match=f"HU must be finite, got 1 voxels that are not .series {UID}"):
        read_ct(path, series_instance_uid=UID)


def packed_file(folder, form, packed):
    """Write a CT of 24 voxels whose packed bytes are given."""
    if form == "nifti":
        path = nifti(folder)
        path.unlink()
        path = path.with_suffix(".nii.gz")
        path.write_bytes(packed)
        return path
    changed = {"CompressedData": "True"} if form == "metaimage" else {"encoding": "gzip"}
    path = metaimage(folder, changed) if form == "metaimage" else nrrd(folder, changed)
    (folder / "voxels.raw").write_bytes(packed)
    return path


def content_of(folder, form):
    return nifti(folder).read_bytes() if form == "nifti" else VOXELS.tobytes()


@pytest.mark.parametrize("form", ["metaimage", "nrrd", "nifti"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda packed: packed + b"x", "got other bytes behind the packed data"),
        (lambda packed: packed + b"\0\0", "got other bytes behind the packed data"),
        (lambda packed: packed + gzip.compress(b"more"), "got more"),
        (lambda packed: packed + packed[:9], "got an early end of the packed data"),
        (lambda packed: packed[:-1], "got an early end of the packed data"),
        (lambda packed: packed[:-8] + b"\1\2\3\4" + packed[-4:], "must unpack, got"),
    ],
)
def test_packed_voxels_end_where_the_header_says_in_every_format(tmp_path, form, damage, words):
    packed = gzip.compress(content_of(tmp_path, form))
    path = packed_file(tmp_path, form, damage(packed))
    with pytest.raises(UnreadableCtError, match=words):
        read_ct(path, series_instance_uid=UID)
    path = packed_file(tmp_path, form, packed)
    assert read_ct(path, series_instance_uid=UID).hounsfield.ravel().tolist() == VOXELS.tolist()


@pytest.mark.parametrize("write", [metaimage, nrrd, nifti])
@pytest.mark.parametrize("num_bytes", [47, 49, 96])
def test_raw_voxels_end_where_the_header_says_in_every_format(tmp_path, write, num_bytes):
    path = nifti(tmp_path, voxels=bytes(num_bytes)) if write is nifti else write(tmp_path, {})
    (tmp_path / "voxels.raw").write_bytes(bytes(num_bytes))
    assert f"must fill 48 bytes, got {num_bytes} (" in refusal_of(path)


@pytest.mark.parametrize("form", ["nrrd", "nifti"])
@pytest.mark.parametrize("pack", [zlib.compress, bytes])
def test_only_gzip_is_gzip(tmp_path, form, pack):
    path = packed_file(tmp_path, form, pack(content_of(tmp_path, form)))
    with pytest.raises(UnreadableCtError, match="instead of gzip's 1f 8b"):
        read_ct(path, series_instance_uid=UID)


def test_unpacking_stops_behind_what_the_header_announces(tmp_path, monkeypatch):
    # 64 MiB of zeros in 64 KiB.
    path = packed_file(tmp_path, "nrrd", gzip.compress(bytes(1 << 26), 9))
    read = []
    monkeypatch.setattr(
        "luna_pipeline.core.ct.formats.packed_files.PackedFile._unpacked",
        lambda self, num_bytes: read.append(num_bytes) or bytes(num_bytes),
    )
    with pytest.raises(UnreadableCtError, match="got more"):
        read_ct(path, series_instance_uid=UID)
    assert read == [48, 1]


def test_raw_int16_of_every_format_is_mapped(tmp_path):
    for path in (metaimage(tmp_path, {}), nrrd(tmp_path, {}), nifti(tmp_path)):
        reader = open_ct(path, series_instance_uid=UID)
        assert isinstance(reader, StoredReader)
        assert reader.header.is_mappable
        assert not read_ct(path, series_instance_uid=UID).hounsfield.flags.owndata


@pytest.mark.parametrize("suffix", [".mha", ".nhdr", ".nrrd", ".nii", ".nii.gz"])
def test_the_catalogue_lists_a_bad_header_beside_a_good_one(tmp_path, suffix):
    write_ct(tmp_path, "1.2.4", random_hounsfield())
    (tmp_path / f"1.2.3{suffix}").write_bytes(b"\x1f\x8bnothing\0" * 9)
    rows = catalogue_series(tmp_path, patient_key=b"key").set_index("series_instance_uid")
    assert rows.is_readable.to_dict() == {"1.2.3": False, "1.2.4": True}
    assert f"(1.2.3{suffix})" in rows.reason["1.2.3"]
