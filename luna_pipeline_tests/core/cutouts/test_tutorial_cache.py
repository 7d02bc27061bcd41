from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.cutouts.tutorial_cache import read_tutorial_cutout

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.197987940182806628828566429132"


def written(folder: Path, name=f"{UID}_257:262:128.npz", *, center=(257, 262, 128), **members) -> Path:
    """A file as the tutorial writes it."""
    chunk = np.random.default_rng(0).integers(-1000, 1001, size=(32, 48, 48)).astype(np.float32)
    members = {"ct_chunk": chunk, "center_irc": np.array(center, dtype=np.int16)} | members
    np.savez(folder / name, **members)
    return folder / name


def test_voxels_centre_and_series_are_read(tmp_path):
    path = written(tmp_path)
    cutout = read_tutorial_cutout(path)
    expected = np.random.default_rng(0).integers(-1000, 1001, size=(32, 48, 48))
    np.testing.assert_array_equal(cutout.ct_chunk, expected)
    assert cutout.ct_chunk.dtype == np.int16
    assert (cutout.center_irc.tolist(), cutout.center_irc.dtype) == ([257, 262, 128], np.int32)
    assert cutout.series_instance_uid == UID


def test_fractions_are_rounded_and_not_cut_off(tmp_path):
    path = written(tmp_path, ct_chunk=np.full((32, 48, 48), -999.6, dtype=np.float32))
    assert (read_tutorial_cutout(path).ct_chunk == -1000).all()


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ({"ct_chunk": np.zeros((12, 48, 48))}, "hold \\(32, 48, 48\\) voxels"),
        ({"center": (257, 262, 129)}, r"around \[257, 262, 128\]"),
        ({"ct_chunk": np.full((32, 48, 48), np.nan)}, "must hold HU"),
        ({"ct_chunk": np.full((32, 48, 48), 40_000)}, "must hold HU"),
        ({"name": "1.2_3.npz"}, "be named"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, members, rule):
    path = written(tmp_path, **members)
    with pytest.raises(ValueError, match=rule) as caught:
        read_tutorial_cutout(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_cutouts_are_refused(tmp_path):
    path = tmp_path / f"{UID}_1:2:3.npz"
    for content in (b"", b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="hold ct_chunk and center_irc"):
            read_tutorial_cutout(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="hold ct_chunk and center_irc"):
        read_tutorial_cutout(path)
    with pytest.raises(FileNotFoundError):
        read_tutorial_cutout(tmp_path / f"{UID}_4:5:6.npz")


@pytest.mark.real
def test_all_real_cutouts_of_the_tutorial_are_read_as_they_are(real_data):
    paths = sorted((real_data / "cutouts").glob("*.npz"))
    assert len(paths) == 6
    for path in paths:
        cutout = read_tutorial_cutout(path)
        with np.load(path) as members:
            np.testing.assert_array_equal(cutout.ct_chunk, members["ct_chunk"])
        voxel = ":".join(map(str, cutout.center_irc.tolist()))
        assert path.name == f"{cutout.series_instance_uid}_{voxel}.npz"
