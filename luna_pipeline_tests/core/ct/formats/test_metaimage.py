"""MetaImages read here and by ITK have the same grid and voxels, for all variants of headers."""

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.file_maps import map_of
from luna_pipeline.core.ct.formats import metaimage
from luna_pipeline.core.ct.formats.metaimage import MetaImageReader
from luna_pipeline.core.ct.reading import UnreadableCtError, open_ct, read_ct
from luna_pipeline_tests.phantoms import grid_of, random_direction, random_hounsfield, write_ct

UID = "1.2.3"
ROTATED = "0.955336 0.295520 0 -0.295520 0.955336 0 0 0 1"


PLACE = ("Offset = 1.5 -2 3e1", "ElementSpacing = 0.7 0.8 1.25")


def write_header(folder, *lines, element_type="MET_SHORT", voxels=None):
    """Write a header with its voxels, 4 x 3 x 2; the given lines come before DimSize."""
    voxels = np.arange(24, dtype="<i2") * 40 - 500 if voxels is None else voxels
    (folder / "voxels.raw").write_bytes(voxels.tobytes())
    text = "\n".join(
        (
            "ObjectType = Image",
            "NDims = 3",
            "BinaryData = True",
            *lines,
            "DimSize = 4 3 2",
            f"ElementType = {element_type}",
            "ElementDataFile = voxels.raw",
            "",
        )
    )
    (folder / f"{UID}.mhd").write_bytes(text.encode())
    return folder / f"{UID}.mhd"


def assert_as_itk(path):
    image, ct = sitk.ReadImage(str(path)), read_ct(path, series_instance_uid=UID)
    assert ct.grid == grid_of(image)
    expected = np.clip(np.rint(sitk.GetArrayFromImage(image).astype(np.float64)), -32768, 32767)
    np.testing.assert_array_equal(ct.hounsfield, expected)
    assert ct.hounsfield.dtype == np.int16
    assert not ct.hounsfield.flags.writeable
    return ct


def is_map(array):
    return map_of(array) is not None


@pytest.mark.seed_defect(21, 22)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("suffix", "is_compressed"), [(".mhd", False), (".mhd", True), (".mha", False), (".mha", True)]
)
def test_oblique_grids_and_voxels_equal_itks(tmp_path, suffix, is_compressed, seed):
    rng = np.random.default_rng(seed)
    path = write_ct(
        tmp_path,
        UID,
        random_hounsfield((5, 7, 9), seed=seed),
        suffix=suffix,
        is_compressed=is_compressed,
        spacing_mm=rng.uniform(0.3, 5, size=3),
        origin_xyz=rng.uniform(-500, 500, size=3),
        direction=random_direction(seed),
    )
    assert_as_itk(path)


@pytest.mark.parametrize(
    "lines",
    [
        PLACE,
        (*PLACE, "TransformMatrix = " + ROTATED),
        ("Orientation = " + ROTATED, "Position = 1 2 3", PLACE[1]),
        ("Rotation = " + ROTATED, "Origin = 1 2 3", PLACE[1]),
        (PLACE[0], "ElementSize = 1 2 3"),
        (PLACE[0], "ElementSize = 1 2 3", "ElementSpacing = 4 5 6"),
        ("  Offset   =\t1   2  3  ", PLACE[1], "CenterOfRotation = 5 5 5", "AnatomicalOrientation = LPI"),
        ("Offset = +1 2. .5\r", PLACE[1], "Modality = MET_MOD_CT", "Comment = scan: 3", "", "  "),
        (*PLACE, "BinaryDataByteOrderMSB = False", "CompressedData = False"),
        ("Offset : 1 2 3", "ElementSpacing:1 2 3"),
        (*PLACE, "Position = 1.5  -2 3e1", "BinaryDataByteOrderMSB = False", "ElementByteOrderMSB = False"),
        (*PLACE, "ElementToIntensityFunctionSlope = 1", "ElementToIntensityFunctionOffset = 0.0", "ElementMin = 7"),
        (*PLACE, *(f"Seq_Frame{frame:04d}_Timestamp = {frame}:30" for frame in range(3000))),
    ],
)
def test_headers_by_hand_are_understood_as_by_itk(tmp_path, lines):
    assert is_map(assert_as_itk(write_header(tmp_path, *lines)).hounsfield)


@pytest.mark.parametrize("key", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
@pytest.mark.parametrize("word", ["True", "true", "1"])
def test_big_endian_voxels_are_turned(tmp_path, key, word):
    voxels = (np.arange(24) * 40 - 500).astype(">i2")
    ct = assert_as_itk(write_header(tmp_path, *PLACE, f"{key} = {word}", voxels=voxels))
    assert ct.hounsfield.ravel().tolist() == voxels.tolist()


@pytest.mark.parametrize(
    ("element_type", "dtype"),
    [
        ("MET_USHORT", "<u2"),
        ("MET_INT", "<i4"),
        ("MET_UINT", "<u4"),
        ("MET_LONG", "<i4"),
        ("MET_ULONG", "<u4"),
        ("MET_LONG_LONG", "<i8"),
        ("MET_FLOAT", "<f4"),
        ("MET_DOUBLE", "<f8"),
    ],
)
def test_other_number_types_equal_itks(tmp_path, element_type, dtype):
    voxels = np.linspace(0, 70_000, 24).clip(0, np.iinfo(dtype).max if dtype[1] in "iu" else None).astype(dtype)
    if dtype[1] != "u":
        voxels[::3] *= -1
    assert_as_itk(write_header(tmp_path, *PLACE, element_type=element_type, voxels=voxels))


@pytest.mark.parametrize("comment", ["", "x"])
def test_local_voxels_are_right_behind_headers_of_any_length(tmp_path, comment):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=".mha")
    path.write_bytes(f"Comment = {comment}\n".encode() + path.read_bytes())
    hounsfield = assert_as_itk(path).hounsfield
    np.testing.assert_array_equal(hounsfield, random_hounsfield())
    assert hounsfield.flags.aligned
    assert is_map(hounsfield) == (MetaImageReader(path, UID).header.offset % 2 == 0)


@pytest.mark.parametrize(("foreign", "is_mapped"), [(b"", True), (b"12", True), (b"odd", False)])
@pytest.mark.parametrize("from_end", [True, False])
def test_voxels_behind_a_foreign_head_are_those_of_itk(tmp_path, foreign, is_mapped, from_end):
    voxels = np.arange(24, dtype="<i2")
    path = write_header(tmp_path, *PLACE, f"HeaderSize = {-1 if from_end else len(foreign)}", voxels=voxels)
    (tmp_path / "voxels.raw").write_bytes(foreign + voxels.tobytes())
    ct = assert_as_itk(path)
    assert ct.hounsfield.ravel().tolist() == list(range(24))
    assert is_map(ct.hounsfield) == is_mapped


def test_raw_voxels_are_the_file_itself(tmp_path):
    path = write_ct(tmp_path, UID, random_hounsfield())
    ct = read_ct(path, series_instance_uid=UID)
    assert is_map(ct.hounsfield)
    with (tmp_path / f"{UID}.raw").open("r+b") as file:
        file.write(np.int16(77).tobytes())
    assert ct.hounsfield[0, 0, 0] == 77
    with pytest.raises(ValueError, match="read-only"):
        ct.hounsfield[0, 0, 0] = 1


@pytest.mark.parametrize("word", ["True", "T", "1"])
def test_compressed_voxels_of_several_pieces_come_back(tmp_path, word):
    # 1.2 MB that hardly compress: the packed file is read in several parts.
    hounsfield = np.random.default_rng(0).integers(-32768, 32767, size=(6, 300, 333)).astype(np.int16)
    path = write_ct(tmp_path, UID, hounsfield, is_compressed=True)
    path.write_text(path.read_text().replace("CompressedData = True", f"CompressedData = {word}"))
    np.testing.assert_array_equal(assert_as_itk(path).hounsfield, hounsfield)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ElementSpacing = 1 -2 3", "Spacing must be"),
        ("ElementSpacing = 0.7 0.7 0", "Spacing must be"),
        ("ElementSpacing = 0.0007 0.0007 0.0012", "Spacing of a CT must be from"),
        ("TransformMatrix = 1 0 0 0 1 0 0 1 1", "Direction"),
        ("TransformMatrix = 0 0 0 0 0 0 0 0 0", "Direction"),
    ],
)
def test_a_senseless_grid_is_refused_with_its_series(tmp_path, line, words):
    lines = [other for other in PLACE if other.split()[0] != line.split()[0]]
    with pytest.raises(UnreadableCtError, match=f"{words}.*series {UID}"):
        open_ct(write_header(tmp_path, *lines, line), series_instance_uid=UID).grid()


def test_a_header_is_parsed_once_a_reading(tmp_path, monkeypatch):
    parsed, read_fields = [], metaimage._read_fields
    monkeypatch.setattr(metaimage, "_read_fields", lambda path: parsed.append(path) or read_fields(path))
    path = write_header(tmp_path, *PLACE)
    assert read_ct(path, series_instance_uid=UID).files == (path, tmp_path / "voxels.raw")
    assert parsed == [path]
    assert catalogue_series(tmp_path, patient_key=b"key").is_readable.tolist() == [True]
    assert parsed == [path] * 2


def test_reading_and_cataloguing_imports_neither_itk_nor_pydicom(tmp_path):
    # Without ITK nothing reads numbers by the C library, which takes the process's locale.
    paths = [write_ct(tmp_path / "data", UID, random_hounsfield())]
    paths += [
        write_ct(tmp_path / suffix, UID, random_hounsfield(), suffix=suffix, is_compressed=True)
        for suffix in (".mha", ".nrrd", ".nii.gz", ".nii")
    ]
    program = f"""
import sys
from pathlib import Path
from luna_pipeline.core.ct import catalogue, content_hash, catalogue_cache
from luna_pipeline.core.ct.reading import open_ct, read_ct
for path in {[str(path) for path in paths]!r}:
    ct = read_ct(Path(path), series_instance_uid={UID!r})
    content_hash.content_fingerprint(ct.files)
heavy = {{"SimpleITK", "pydicom", "highdicom", "pandas", "pyarrow", "torch", "scipy", "matplotlib"}}
print(sorted(heavy & set(sys.modules)))
rows = catalogue.catalogue_series(Path({str(tmp_path / "data")!r}), patient_key=b"key")
print(sorted(heavy & set(sys.modules)), rows.is_readable.tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    before, after = done.stdout.splitlines()
    assert before == "[]"
    assert {"SimpleITK", "pydicom", "torch"}.isdisjoint(after.split("'"))
    assert after.endswith("[True]")
