"""Nodules of NoduleMNIST3D are read one by one, unpacked once, and nothing of a damaged file is believed."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.formats import nodulemnist3d as module
from luna_pipeline.core.ct.reading import UnreadableCtError, open_ct, read_ct
from luna_pipeline_tests.core.mnist_examples import arrays_of, write_npz


@pytest.fixture
def path(tmp_path):
    return write_npz(tmp_path)


def test_gray_values_become_numbers_of_the_window_on_a_grid_of_1_mm(tmp_path):
    arrays = arrays_of()
    arrays["val_images"][0] = 0
    arrays["val_images"][0, 1, 2, 3] = 255
    arrays["val_images"][0, 4, 5, 6] = 128
    ct = read_ct(write_npz(tmp_path, arrays), series_instance_uid="nodulemnist3d-val-0000")
    assert ct.hounsfield.dtype == np.int16
    # By hand: 128 * 2000 / 255 - 1000 = 3.9.
    assert (ct.hounsfield[0, 0, 0], ct.hounsfield[1, 2, 3], ct.hounsfield[4, 5, 6]) == (-1000, 1000, 4)
    assert ct.grid.size_irc == (28, 28, 28)
    assert ct.grid.voxel_to_world([4, 5, 6]).tolist() == [6.0, 5.0, 4.0]
    assert not ct.is_hounsfield
    assert ct.files == (tmp_path / "nodulemnist3d.npz",)


def test_each_gray_value_has_a_number_of_its_own():
    assert len(set(module._GRAY_TO_HU.tolist())) == 256
    assert (np.diff(module._GRAY_TO_HU) > 0).all()


def test_a_split_is_unpacked_once_and_again_when_the_file_changes(path):
    module._unpacked.cache_clear()
    for index in (0, 1, 2, 0):
        read_ct(path, series_instance_uid=module.uid_of("train", index))
    assert module._unpacked.cache_info().misses == 1
    write_npz(path.parent, arrays_of(seed=1))
    assert (module.read_split(path, "train").images == arrays_of(seed=1)["train_images"]).all()


def test_the_fingerprint_is_of_the_nodules_own_voxels(path):
    def fingerprints():
        uids = [module.uid_of("test", index) for index in range(2)]
        return [open_ct(path, series_instance_uid=uid).content_fingerprint() for uid in uids]

    before = fingerprints()
    assert len(set(before)) == 2
    arrays = arrays_of()
    arrays["test_images"][1, 0, 0, 0] ^= 1
    arrays["train_images"][:] = 7
    write_npz(path.parent, arrays)
    after = fingerprints()
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_larger_edition_is_told_by_its_name(tmp_path):
    path = write_npz(tmp_path, arrays_of({"train": 1, "val": 0, "test": 0}, edge=64), name="nodulemnist3d_64.npz")
    assert module.num_nodules(path) == {"train": 1, "val": 0, "test": 0}
    assert read_ct(path, series_instance_uid="nodulemnist3d-train-0000").hounsfield.shape == (64, 64, 64)


@pytest.mark.parametrize(
    ("uid", "said"),
    [
        ("nodulemnist3d-train-0003", "number below 3, got 3"),
        ("nodulemnist3d-dev-0000", "named such as nodulemnist3d-train-0000, got 'nodulemnist3d-dev-0000'"),
        ("1.2.3", "named such as"),
    ],
)
def test_a_name_that_is_no_nodule_is_refused(path, uid, said):
    with pytest.raises(UnreadableCtError, match=said):
        read_ct(path, series_instance_uid=uid)


def changed(**arrays):
    return arrays_of() | arrays


BAD = {
    "missing": ({k: v for k, v in arrays_of().items() if k != "train_images"}, "must hold an array train_images"),
    "shape": (changed(train_images=np.zeros((3, 28, 28, 27), np.uint8)), r"must be \(N, 28, 28, 28\)"),
    "edge of the other edition": (changed(train_images=np.zeros((1, 64, 64, 64), np.uint8)), r"\(N, 28, 28, 28\)"),
    "type": (changed(train_images=np.zeros((3, 28, 28, 28), np.float32)), "must be uint8.*got float32"),
    "sign": (changed(train_images=np.zeros((3, 28, 28, 28), np.int8)), "must be uint8.*got int8"),
    "order": (changed(train_images=np.asfortranarray(np.zeros((3, 28, 28, 28), np.uint8))), "must be uint8"),
    "number of labels": (changed(train_labels=np.zeros((2, 1), np.uint8)), r"must be \(3, 1\) of 0 and 1"),
    "other label": (changed(train_labels=np.full((3, 1), 2, np.uint8)), r"got \(3, 1\) of \[2\]"),
}


@pytest.mark.parametrize("kind", BAD)
def test_arrays_that_are_not_as_published_are_refused(tmp_path, kind):
    arrays, said = BAD[kind]
    path = write_npz(tmp_path, arrays)
    with pytest.raises(UnreadableCtError, match=said) as error:
        module.read_split(path, "train")
    assert "Download the file again." in str(error.value)
    assert "\n" not in str(error.value)


class Trap:
    """What unpickling would call."""

    def __reduce__(self):
        return (pytest.fail, ("An object was unpickled.",))


def test_python_objects_are_never_built(tmp_path):
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(npy, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    path = write_npz(tmp_path, {k: v for k, v in arrays_of().items() if k != "train_images"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train_images.npy", npy.getvalue() + pickle.dumps([Trap()]))
    with pytest.raises(UnreadableCtError, match=r"must be uint8.*got object"):
        module.read_split(path, "train")


def write_announcing(path, num_bytes):
    """Write an array whose entry in the zip directory announces a length."""
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, at + 24, num_bytes)
    path.write_bytes(content)


def test_an_archive_that_announces_too_much_is_refused_before_it_is_unpacked(path):
    write_announcing(path, 2**31)
    with pytest.raises(UnreadableCtError, match="2147483648 bytes announced"):
        module.num_nodules(path)


def test_a_member_above_the_limit_is_refused(path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_MEMBER_BYTES", 28**3)
    with pytest.raises(UnreadableCtError, match="bytes announced for 'train_images"):
        module.num_nodules(path)


def test_a_header_that_announces_more_than_the_member_holds_is_refused(tmp_path):
    npy = io.BytesIO()
    shape = (10**9, 28, 28, 28)
    np.lib.format.write_array_header_1_0(npy, {"descr": "|u1", "fortran_order": False, "shape": shape})
    path = write_npz(tmp_path, {k: v for k, v in arrays_of().items() if k != "val_images"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("val_images.npy", npy.getvalue() + bytes(100))
    with pytest.raises(UnreadableCtError, match="fill its 100 bytes"):
        module.num_nodules(path)


def test_a_truncated_file_and_a_wrong_bit_are_named(path):
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    with pytest.raises(UnreadableCtError, match=r"must be a whole \.npz file"):
        module.num_nodules(path)
    broken = bytearray(content)
    broken[len(content) // 3] ^= 8
    path.write_bytes(broken)
    with pytest.raises(UnreadableCtError, match=r"must be a whole \.npz file, got .*(CRC|decompressing)"):
        module.read_split(path, "train")


def test_text_in_place_of_an_array_is_named(tmp_path):
    path = write_npz(tmp_path, {k: v for k, v in arrays_of().items() if k != "val_images"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("val_images.npy", "index,label\n")
    with pytest.raises(UnreadableCtError, match="numpy's format"):
        module.num_nodules(path)


def test_other_sources_catalogues_do_not_list_the_file(path):
    with pytest.raises(FileNotFoundError, match="got none"):
        catalogue_series(path.parent, patient_key=b"key")
