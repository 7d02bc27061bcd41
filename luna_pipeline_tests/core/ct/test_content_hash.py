import os

import pytest
import xxhash

from luna_pipeline.core.ct.content_hash import content_fingerprint
from luna_pipeline.core.ct.reading import UnreadableCtError, open_ct, read_ct
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct, write_dicom_series

UID = "1.2.3"


def write(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        paths.append(folder / name)
    return paths


def test_it_is_the_hash_of_lengths_and_bytes_in_the_order_of_names(tmp_path):
    files = write(tmp_path, b=b"second", a=b"first", c=b"")
    expected = xxhash.xxh3_128(b"\5\0\0\0\0\0\0\0first\6\0\0\0\0\0\0\0second\0\0\0\0\0\0\0\0").hexdigest()
    assert content_fingerprint(files) == expected
    assert content_fingerprint(files[::-1]) == expected


def test_neither_folder_nor_time_counts(tmp_path):
    here, there = write(tmp_path / "here", a=b"1", b=b"2"), write(tmp_path / "there", a=b"1", b=b"2")
    os.utime(there[0], ns=(1, 1))
    assert content_fingerprint(here) == content_fingerprint(there)


@pytest.mark.parametrize(
    "other", [{"a": b"1x", "b": b"2"}, {"a": b"12", "b": b""}, {"a": b"2", "b": b"1"}, {"a": b"1"}]
)
def test_any_other_content_is_another(tmp_path, other):
    first = content_fingerprint(write(tmp_path / "first", a=b"1", b=b"2"))
    assert content_fingerprint(write(tmp_path / "other", **other)) != first


@pytest.mark.parametrize(
    ("suffix", "names"),
    [
        (".mhd", ["1.2.3.mhd", "1.2.3.raw"]),
        (".mha", ["1.2.3.mha"]),
        (".nrrd", ["1.2.3.nrrd"]),
        (".nii.gz", ["1.2.3.nii.gz"]),
    ],
)
def test_the_files_of_a_ct_are_known_without_its_voxels(tmp_path, suffix, names):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=suffix)
    files = open_ct(path, series_instance_uid=UID).files()
    assert [file.name for file in files] == names
    assert read_ct(path, series_instance_uid=UID).files == files


def test_voxels_of_a_nrrd_may_lie_apart(tmp_path):
    path = write_ct(tmp_path, UID, random_hounsfield(), suffix=".nrrd")
    head, _, voxels = path.read_bytes().partition(b"\n\n")
    path.write_bytes(head + b"\ndata file: voxels.raw\n")
    (tmp_path / "voxels.raw").write_bytes(voxels)
    assert read_ct(path, series_instance_uid=UID).files == (path, tmp_path / "voxels.raw")


def test_the_files_of_a_dicom_series_are_its_slices(tmp_path):
    write_dicom_series(tmp_path, UID, random_hounsfield())
    write_dicom_series(tmp_path, "1.2.4", random_hounsfield((3, 8, 10)), prefix="other")
    (tmp_path / "note.txt").write_text("note")
    files = open_ct(tmp_path, series_instance_uid=UID).files()
    assert [file.name for file in files] == [f"slice{number:04d}.dcm" for number in range(1, 7)]
    assert read_ct(tmp_path, series_instance_uid=UID).files == files


def test_a_series_that_is_not_there_has_no_files(tmp_path):
    with pytest.raises(UnreadableCtError, match="must be a file"):
        open_ct(tmp_path / "nowhere.mhd", series_instance_uid=UID).files()
