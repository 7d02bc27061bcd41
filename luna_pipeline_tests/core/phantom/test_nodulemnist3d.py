"""Cubes of the synthetic twin show the phantom's nodules in their middle."""

import io

import numpy as np
import pytest

from luna_pipeline.core.phantom.nodulemnist3d import NoduleMnist3dForm
from luna_pipeline.core.phantom.series import PhantomConfig, make_series


@pytest.fixture(scope="module")
def made():
    """Series 1 is flipped, series 5 oblique."""
    return [make_series(PhantomConfig(seed=1, number=number, size_irc=(40, 64, 64))) for number in (0, 1, 5)]


def twin_of(tmp_path, made):
    form = NoduleMnist3dForm(tmp_path, 1)
    for series in made:
        form.write(series)
    content = form.tables()["nodulemnist3d.npz"]
    return form, content, dict(np.load(io.BytesIO(content), allow_pickle=False))


def test_a_cube_shows_the_world_around_its_nodule_whatever_the_axes(tmp_path, made):
    form = NoduleMnist3dForm(tmp_path, 1)
    for series in made:
        form.write(series)
    kept = [(series, nodule) for series in made for nodule in series.findings.nodules]
    assert len(kept) == len(form.cubes) > 3
    for (series, nodule), (cube, _) in zip(kept, form.cubes, strict=True):
        # Three voxels off the middle along x, y and z in turn; axes are index, row, col.
        for offset_xyz, irc in (((3, 0, 0), (14, 14, 17)), ((0, 3, 0), (14, 17, 14)), ((0, 0, 3), (17, 14, 14))):
            voxel = series.grid.nearest_voxel(np.add(nodule.center_xyz, offset_xyz))
            near = series.hounsfield[tuple(slice(max(0, k - 1), k + 2) for k in voxel)]
            low, high = np.clip([near.min(), near.max()], -1000, 1000)
            assert low - 8 <= cube[irc] * (2000 / 255) - 1000 <= high + 8


def test_labels_are_of_the_mean_rating(tmp_path, made):
    form, _, arrays = twin_of(tmp_path, made)
    means = [np.mean(ratings) for series in made for ratings in series.findings.ratings]
    assert [label for _, label in form.cubes] == [int(mean >= 2.5) for mean in means]
    labels = np.concatenate([arrays[f"{split}_labels"] for split in ("train", "val", "test")])
    assert labels.sum() == sum(label for _, label in form.cubes)


def test_the_same_series_write_the_same_bytes_in_shares_of_7_to_1_to_2(tmp_path, made):
    _, first, arrays = twin_of(tmp_path, made)
    assert twin_of(tmp_path, made)[1] == first
    cube = np.zeros((28, 28, 28), np.uint8)
    many = NoduleMnist3dForm(tmp_path, 1, cubes=[(cube, 0)] * 20 + [(cube, 1)] * 4)
    arrays = dict(np.load(io.BytesIO(many.tables()["nodulemnist3d.npz"])))
    labels = {split: arrays[f"{split}_labels"] for split in ("train", "val", "test")}
    assert {split: (len(each), each.sum()) for split, each in labels.items()} == {
        "train": (16, 2),
        "val": (3, 1),
        "test": (5, 1),
    }
