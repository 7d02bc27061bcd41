import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from luna_pipeline.core.ct.formats.nrrd import NrrdReader
from luna_pipeline.core.ct.reading import FORMATS, UnreadableCtError, open_ct, read_ct
from luna_pipeline_tests.phantoms import (
    grid_of,
    make_image,
    random_direction,
    random_hounsfield,
    write_ct,
    write_dicom_series,
)

UID = "1.2.3"
NUM_BYTES = 6 * 8 * 10 * 2


def reason_of(path, uid=UID):
    """Return the message with which a CT is refused; it is one line."""
    with pytest.raises(UnreadableCtError) as caught:
        read_ct(path, series_instance_uid=uid)
    message = str(caught.value)
    assert "\n" not in message
    return message


def voxel_file(path):
    return next(file for file in path.parent.iterdir() if file.suffix in {".raw", ".zraw"})


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("suffix", FORMATS)
def test_hounsfield_and_grid_come_back_from_every_format(tmp_path, suffix, is_compressed):
    hounsfield, direction = random_hounsfield(), random_direction(2)
    path = write_ct(tmp_path, UID, hounsfield, direction=direction, suffix=suffix, is_compressed=is_compressed)
    ct = read_ct(path, series_instance_uid=UID)
    np.testing.assert_array_equal(ct.hounsfield, hounsfield)
    assert ct.hounsfield.dtype == np.int16
    assert ct.series_instance_uid == UID
    expected = grid_of(make_image(hounsfield, direction=direction))
    assert ct.grid.size_irc == (6, 8, 10)
    np.testing.assert_allclose(ct.grid.spacing_mm, expected.spacing_mm, rtol=1e-6)
    np.testing.assert_allclose(ct.grid.origin_xyz, expected.origin_xyz, rtol=1e-6)
    np.testing.assert_allclose(ct.grid.direction, expected.direction, atol=1e-6)


@pytest.mark.seed_defect(21, 22)
def test_array_and_grid_speak_of_the_same_voxel(tmp_path):
    hounsfield = random_hounsfield()
    path = write_ct(tmp_path, UID, hounsfield, direction=random_direction(1))
    ct, image = read_ct(path, series_instance_uid=UID), sitk.ReadImage(str(path))
    for col, row, index in [(0, 0, 0), (9, 0, 5), (3, 7, 1)]:
        point_xyz = image.TransformIndexToPhysicalPoint((col, row, index))
        assert ct.hounsfield[tuple(ct.grid.nearest_voxel(point_xyz))] == image[col, row, index]


def test_padding_below_minus_1000_stays(tmp_path):
    hounsfield = random_hounsfield()
    hounsfield[0, 0, :3] = (-2048, -3024, 5892)
    ct = read_ct(write_ct(tmp_path, UID, hounsfield), series_instance_uid=UID)
    assert ct.hounsfield[0, 0, :3].tolist() == [-2048, -3024, 5892]


def test_fractions_are_rounded_and_limits_kept(tmp_path):
    values = np.array([-1000.6, -0.4, 99.5001, 4e5, -4e5], dtype=np.float32).reshape(1, 1, 5).repeat(2, axis=0)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"{UID}.mhd"))
    ct = read_ct(tmp_path / f"{UID}.mhd", series_instance_uid=UID)
    assert ct.hounsfield[0, 0].tolist() == [-1001, 0, 100, 32767, -32768]


def test_wide_integers_do_not_wrap(tmp_path):
    values = np.array([-1000, 40, 70_000, -70_000], dtype=np.int32).reshape(1, 1, 4).repeat(2, axis=0)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"{UID}.mha"))
    ct = read_ct(tmp_path / f"{UID}.mha", series_instance_uid=UID)
    assert ct.hounsfield[1, 0].tolist() == [-1000, 40, 32767, -32768]


def test_hounsfield_that_is_not_finite_is_refused(tmp_path):
    values = np.full((2, 2, 2), np.nan, dtype=np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"{UID}.nrrd"))
    assert "HU must be finite, got 8 voxels" in reason_of(tmp_path / f"{UID}.nrrd")


def test_a_missing_raw_is_named_with_the_bytes_expected(tmp_path):
    path = write_ct(tmp_path, UID, random_hounsfield())
    voxel_file(path).unlink()
    assert reason_of(path).startswith(f"The voxel file must hold {NUM_BYTES} bytes, got no such file ({UID}.raw")


@pytest.mark.parametrize("difference", [-2, -500, 2])
@pytest.mark.parametrize("suffix", [".mhd", ".mha"])
def test_a_voxel_file_of_another_length_is_refused_with_both_lengths(tmp_path, suffix, difference):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=suffix)
    file = voxel_file(path) if suffix == ".mhd" else path
    content = file.read_bytes()
    file.write_bytes(content[:difference] if difference < 0 else content + b"\0" * difference)
    reason = reason_of(path)
    assert f"{NUM_BYTES} bytes, got {NUM_BYTES + difference} ({file.name} of series {UID})" in reason
    with pytest.raises(UnreadableCtError):
        open_ct(path, series_instance_uid=UID).grid()


@pytest.mark.parametrize("wrong", ["10 8 7", "10 8 5", "8 10 7"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_wrong_dim_size_is_refused(tmp_path, wrong, is_compressed):
    path = write_ct(tmp_path, UID, random_hounsfield(), is_compressed=is_compressed)
    path.write_text(path.read_text().replace("DimSize = 10 8 6", f"DimSize = {wrong}"))
    # Unpacking stops at the bytes that the header announces.
    got = "more" if is_compressed and wrong == "10 8 5" else str(NUM_BYTES)
    assert f"got {got} (" in reason_of(path)


@pytest.mark.parametrize("damage", ["truncated", "longer", "garbage"])
@pytest.mark.parametrize("suffix", [".mhd", ".mha"])
def test_damaged_compressed_voxels_are_refused(tmp_path, suffix, damage):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=suffix, is_compressed=True)
    file = voxel_file(path) if suffix == ".mhd" else path
    content = file.read_bytes()
    damaged = {"truncated": content[:-9], "longer": content + b"123", "garbage": content[:-400] + b"\xff" * 400}
    file.write_bytes(damaged[damage])
    assert file.name in reason_of(path)


def test_compressed_voxels_of_unsaid_length_must_unpack_to_the_whole(tmp_path):
    path = write_ct(tmp_path, UID, random_hounsfield(), is_compressed=True)
    lines = [line for line in path.read_text().splitlines(keepends=True) if "CompressedDataSize" not in line]
    path.write_text("".join(lines))
    assert read_ct(path, series_instance_uid=UID).hounsfield.shape == (6, 8, 10)
    voxel_file(path).write_bytes(voxel_file(path).read_bytes()[:-50])
    assert "must unpack, got an early end of the packed data" in reason_of(path)


def test_voxels_behind_a_foreign_header_are_found_from_the_end(tmp_path):
    hounsfield = random_hounsfield()
    path = write_ct(tmp_path, UID, hounsfield)
    voxel_file(path).write_bytes(b"foreign header" + hounsfield.tobytes())
    path.write_text(path.read_text().replace("ElementDataFile", "HeaderSize = -1\nElementDataFile"))
    np.testing.assert_array_equal(read_ct(path, series_instance_uid=UID).hounsfield, hounsfield)
    path.write_text(path.read_text().replace("HeaderSize = -1", "HeaderSize = 14"))
    np.testing.assert_array_equal(read_ct(path, series_instance_uid=UID).hounsfield, hounsfield)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ElementType = MET_SHORT", "ElementType = MET_STRANGE", "MET_STRANGE"),
        ("DimSize = 10 8 6\n", "", "DimSize"),
        ("DimSize = 10 8 6", "DimSize = 10 8 six", "six"),
        (f"{UID}.raw", "LIST", "LIST"),
        (f"{UID}.raw", "slice%03d.raw 1 6 1", "slice%03d"),
    ],
)
def test_a_senseless_metaimage_header_is_refused_by_its_key(tmp_path, old, new, words):
    path = write_ct(tmp_path, UID, random_hounsfield())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert words in reason_of(path)


@pytest.mark.parametrize("suffix", [".mhd", ".mha", ".nrrd", ".nii", ".nii.gz"])
@pytest.mark.parametrize("content", [b"", b"no header at all"])
def test_files_that_are_no_image_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"{UID}{suffix}"
    path.write_bytes(content)
    assert UID in reason_of(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_truncated_nrrd_and_nifti_are_refused(tmp_path, suffix, is_compressed):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=suffix, is_compressed=is_compressed)
    path.write_bytes(path.read_bytes()[:-200])
    assert path.name in reason_of(path)


@pytest.mark.parametrize(("suffix", "words"), [(".nii", "must fill 960 bytes, got 760"), (".nii.gz", "early end")])
def test_truncated_nifti_is_refused_with_both_lengths(tmp_path, suffix, words):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=suffix)
    path.write_bytes(path.read_bytes()[:-200])
    assert words in reason_of(path)


def test_nifti_2_is_refused_by_name(tmp_path):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=".nii")
    path.write_bytes(b"\x1c\x02\0\0" + path.read_bytes()[4:])
    with pytest.raises(UnreadableCtError, match="540, of NIfTI-2"):
        open_ct(path, series_instance_uid=UID).grid()


@pytest.mark.parametrize("difference", [-2, -200, 2, 100])
@pytest.mark.parametrize("is_apart", [False, True])
def test_a_nrrd_of_another_length_is_refused_with_both_lengths(tmp_path, is_apart, difference):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=".nrrd")
    head, _, voxels = path.read_bytes().partition(b"\n\n")
    voxels = voxels[:difference] if difference < 0 else voxels + bytes(difference)
    path.write_bytes(head + (b"\ndata file: apart.raw\n" if is_apart else b"\n\n" + voxels))
    if is_apart:
        (tmp_path / "apart.raw").write_bytes(voxels)
    reason = reason_of(path)
    assert f"must fill {NUM_BYTES} bytes, got {NUM_BYTES + difference} (" in reason
    with pytest.raises(UnreadableCtError):
        open_ct(path, series_instance_uid=UID).grid()


@pytest.mark.parametrize("num_bytes", [NUM_BYTES - 2, NUM_BYTES + 2])
def test_a_packed_nrrd_of_another_length_is_refused_with_both_lengths(tmp_path, num_bytes):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=".nrrd", is_compressed=True)
    head, _, _ = path.read_bytes().partition(b"\n\n")
    path.write_bytes(head + b"\n\n" + gzip.compress(bytes(num_bytes)))
    got = "more" if num_bytes > NUM_BYTES else num_bytes
    assert f"must fill {NUM_BYTES} bytes unpacked, got {got} (" in reason_of(path)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii"])
def test_a_length_that_can_be_seen_is_refused_before_voxels_are_read(tmp_path, suffix):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=suffix)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UnreadableCtError):
        open_ct(path, series_instance_uid=UID).grid()


@pytest.mark.parametrize(
    "type_name", ["short", "signed short int", "int16_t", "unsigned short", "uint16", "int", "float"]
)
def test_nrrd_types_are_known_by_each_of_their_names(tmp_path, type_name):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=".nrrd")
    head, _, _ = path.read_bytes().partition(b"\n\n")
    head = b"\n".join(line for line in head.splitlines() if not line.startswith(b"type:"))
    num_bytes = 4 if type_name in {"int", "float"} else 2
    path.write_bytes(head + f"\ntype: {type_name}\n\n".encode() + bytes(6 * 8 * 10 * num_bytes))
    assert NrrdReader(path, UID).header.num_bytes == 6 * 8 * 10 * num_bytes
    assert not read_ct(path, series_instance_uid=UID).hounsfield.any()


def test_anything_but_three_axes_is_refused(tmp_path):
    sitk.WriteImage(sitk.Image([4, 5], sitk.sitkInt16), str(tmp_path / f"{UID}.mha"))
    assert "NDims must be 3, as a CT has three dimensions, got '2'" in reason_of(tmp_path / f"{UID}.mha")


@pytest.mark.parametrize("image", [sitk.Image([4, 5, 6], sitk.sitkUInt8), sitk.Image([4, 5, 6], sitk.sitkVectorInt16)])
def test_label_maps_and_colours_are_no_ct(tmp_path, image):
    sitk.WriteImage(image, str(tmp_path / f"{UID}.mha"))
    assert "A CT must hold one number of 16 bits" in reason_of(tmp_path / f"{UID}.mha")


@pytest.mark.parametrize("name", ["nothing.mhd", "table.csv", "nowhere"])
def test_what_is_no_ct_or_not_there_is_refused(tmp_path, name):
    assert "A CT must be a file (.mhd" in reason_of(tmp_path / name)


def test_thin_cts_are_fine(tmp_path):
    ct = read_ct(write_ct(tmp_path, UID, random_hounsfield((20, 8, 8))), series_instance_uid=UID)
    assert ct.hounsfield.shape == (20, 8, 8)


def test_itk_stays_silent_and_as_it_was(tmp_path, capfd):
    was_on = sitk.ProcessObject.GetGlobalWarningDisplay()
    folder = write_dicom_series(tmp_path / "dicom", UID, random_hounsfield())
    (folder / "slice0003.dcm").write_bytes(b"damaged")
    reason_of(folder)
    path = write_ct(tmp_path, UID, random_hounsfield(), is_compressed=True)
    voxel_file(path).write_bytes(voxel_file(path).read_bytes()[:-50])
    reason_of(path)
    assert capfd.readouterr() == ("", "")
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == was_on
