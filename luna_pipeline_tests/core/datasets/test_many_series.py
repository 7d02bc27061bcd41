"""More series than files may be open, or mapped."""

import os
import resource

import numpy as np
import pytest
import torch

from luna_pipeline.core.ct import file_maps
from luna_pipeline.core.cutouts.aligned_npz import DamagedCutoutsError
from luna_pipeline.core.datasets.cutouts import CutoutsDataset
from luna_pipeline_tests.core.cutout_examples import write_examples

NUM_SERIES = 200


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folds = {f"2.25.{number}": number % 3 for number in range(NUM_SERIES)}
    return write_examples(tmp_path_factory.mktemp("cutouts"), folds=folds, num_per_series=2, shape_irc=(16, 16, 16))


@pytest.fixture
def few_open_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def all_chunks(index, store) -> torch.Tensor:
    dataset = CutoutsDataset(index, store)
    return dataset.__getitems__(range(len(dataset))).chunks_hu


def test_more_series_than_open_files_are_loaded(many, few_open_files):
    index, store = many
    got = all_chunks(index, store)
    for place in (0, NUM_SERIES, 2 * NUM_SERIES - 1):
        row = index.iloc[place]
        with np.load(store.path(row["series_instance_uid"])) as arrays:
            assert np.array_equal(got[place, 0].numpy(), arrays["ct_chunks"][row["row"]])


@pytest.mark.parametrize("num_maps", [0, 50])
def test_series_beyond_the_limit_of_maps_are_read_row_by_row_with_the_same_values(
    many, few_open_files, monkeypatch, num_maps
):
    expected = all_chunks(*many).clone()
    limit = len(file_maps._ADDRESSES) + num_maps
    monkeypatch.setattr(file_maps, "_limit", lambda: limit)
    assert torch.equal(all_chunks(*many), expected)
    assert len(file_maps._ADDRESSES) <= limit


def test_a_file_that_is_replaced_while_its_rows_are_read_is_refused(tmp_path, monkeypatch):
    index, store = write_examples(tmp_path, folds={"1.10": 0}, shape_irc=(16, 16, 16))
    monkeypatch.setattr(file_maps, "_limit", lambda: 0)
    dataset = CutoutsDataset(index, store)
    path = store.path("1.10")
    (tmp_path / "copy").write_bytes(path.read_bytes())
    (tmp_path / "copy").replace(path)
    with pytest.raises(DamagedCutoutsError, match=r"opened, got a replaced one .*1\.10\.npz"):
        dataset.__getitems__([0])
