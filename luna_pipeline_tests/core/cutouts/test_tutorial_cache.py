import io
import os
import random
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.ct.catalogue import catalogue_series, grid_of_row
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.cutouts.job import compare_file
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.cutouts.tutorial_cache import (
    read_tutorial_cutout,
    read_tutorial_series,
    write_tutorial_cutouts,
)
from luna_pipeline_tests.core.cutouts.data_root import candidates_in, make_service
from luna_pipeline_tests.core.cutouts.examples import make_cutouts
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

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


def odd_file(path, kind):
    """Make a file that is none of the tutorial's cutouts; return what its refusal says."""
    if kind == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("ct_chunk.npy", bytes(50_000_000))
        return "50000000 bytes announced for 'ct_chunk.npy'"
    if kind == "huge shape":
        header = io.BytesIO()
        shape = {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(header, shape)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ct_chunk.npy", header.getvalue())
        return "hold ct_chunk and center_irc, got"
    if kind == "texts":
        written(path.parent, path.name, ct_chunk=np.full((32, 48, 48), "a"))
        return "hold numbers, got <U1 and int16"
    if kind == "large":
        with path.open("wb") as file:
            file.truncate(4 << 30)
        return "at most 4194304 bytes, got more"
    {"FIFO": partial(os.mkfifo, path), "folder": path.mkdir, "device": partial(path.symlink_to, "/dev/zero")}[kind]()
    return f"be a file, got Only regular files are opened, got a {kind.replace('device', 'character device')}"


@pytest.mark.parametrize("kind", ["bomb", "huge shape", "texts", "large", "FIFO", "folder", "device"])
def test_what_cannot_be_a_cutout_is_refused_in_one_line_before_it_is_unpacked(tmp_path, kind):
    path = tmp_path / f"{UID}_257:262:128.npz"
    reason = odd_file(path, kind)
    with pytest.raises(ValueError, match="A cutout of the original project must") as caught:
        read_tutorial_cutout(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_any_damaged_cutout_is_one_line_or_read_as_it_was(tmp_path):
    path = written(tmp_path)
    content, randomness, expected = path.read_bytes(), random.Random(17), read_tutorial_cutout(path).ct_chunk
    texts: dict[int, str] = {}
    for at in [
        *range(0, 200, 2),
        *range(len(content) - 300, len(content), 3),
        *randomness.choices(range(len(content)), k=30),
    ]:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << randomness.randrange(8)]) + content[at + 1 :])
        try:
            found = read_tutorial_cutout(path).ct_chunk
        except ValueError as error:
            found, texts[at] = expected, str(error)
        np.testing.assert_array_equal(found, expected)
    assert not [text for text in texts.values() if "\n" in text]


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


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """Series cut by the tutorial's rule: the service and its catalogue."""
    root = tmp_path_factory.mktemp("data")
    parts = []
    for number, uid in enumerate(["1.2.1", "1.2.2"]):
        write_ct(root, uid, random_hounsfield((40, 60, 70), seed=number))
        grid = VoxelGrid((40, 60, 70), (0.7, 0.8, 2.5), (-50.0, -40.0, -300.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        parts.append(candidates_in(uid, grid, num_rows=6, seed=number))
    # Two candidates at one voxel, as the tables have them.
    twin = parts[0].iloc[[3]].assign(candidate_id=7)
    candidates = pd.concat([*parts, twin], ignore_index=True)
    catalogue = catalogue_series(root, patient_key=b"key")
    service = make_service(
        root,
        catalogue,
        candidates,
        store=CutoutStore(root / "cutouts"),
        parameters=CuttingParameters(edge_rule="shift"),
    )
    assert service.cut_many().num_cut == 2
    return service, catalogue


def test_what_is_exported_is_what_the_tutorial_writes(cut, tmp_path):
    service, _ = cut
    cutouts = service.store.read("1.2.1")
    assert write_tutorial_cutouts(tmp_path, cutouts) == 6
    assert len(list(tmp_path.iterdir())) == 6
    for row, center_irc in enumerate(cutouts.center_irc.tolist()):
        path = tmp_path / "1.2.1_{}:{}:{}.npz".format(*center_irc)
        with np.load(path) as members:
            assert sorted(members) == ["center_irc", "ct_chunk"]
            assert members["ct_chunk"].dtype == np.float32
            assert members["center_irc"].dtype == np.int16
            np.testing.assert_array_equal(members["ct_chunk"], cutouts.ct_chunks[row])


def test_what_was_exported_comes_back_as_it_was(cut, tmp_path):
    service, catalogue = cut
    for row in catalogue.to_dict("records"):
        uid = row["series_instance_uid"]
        expected = service.store.read(uid)
        write_tutorial_cutouts(tmp_path, expected)
        taken = read_tutorial_series(tmp_path, service.job(uid), grid_of_row(row))
        for name in ("ct_chunks", "center_irc", "center_xyz", "candidate_id"):
            np.testing.assert_array_equal(np.asarray(getattr(taken, name)), np.asarray(getattr(expected, name)))
        store = CutoutStore(tmp_path / "taken")
        store.write(uid, taken)
        assert compare_file(store, uid, service.job(uid).wanted)[:2] == ("current", "")


def test_a_cache_that_lacks_a_candidate_is_no_series(cut, tmp_path):
    service, catalogue = cut
    write_tutorial_cutouts(tmp_path, service.store.read("1.2.1"))
    next(tmp_path.iterdir()).unlink()
    assert read_tutorial_series(tmp_path, service.job("1.2.1"), grid_of_row(catalogue.iloc[0])) is None


def test_cutouts_of_another_shape_are_no_tutorials(tmp_path):
    with pytest.raises(ValueError, match=r"must be \(32, 48, 48\) voxels, got \(4, 6, 6\)"):
        write_tutorial_cutouts(tmp_path, make_cutouts())
