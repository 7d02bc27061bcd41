import pickle

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.cutouts.index import build_cutout_index
from luna_pipeline.core.cutouts.on_the_fly import UncutSeries
from luna_pipeline.core.cutouts.store import CutoutStore
from luna_pipeline.core.datasets.cutouts import CutoutsDataset
from luna_pipeline_tests.core.cutouts.data_root import UIDS, make_service, write_data_root
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

FOLDS = pd.DataFrame({"series_instance_uid": UIDS, "fold": [0, 1, 2]})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same series twice: in a store, and uncut; with the candidates."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "data").mkdir()
    catalogue, candidates = write_data_root(folder / "data", num_rows=9)
    store = CutoutStore(folder / "cutouts")
    service = make_service(folder / "data", catalogue, candidates, store=store)
    service.cut_many()
    return store, UncutSeries(service, UIDS), candidates


def test_the_chunks_are_those_of_the_store(made):
    store, uncut, _ = made
    for uid in UIDS:
        cut, lazy = store.read(uid), uncut.read(uid)
        assert lazy.ct_chunks.shape == cut.ct_chunks.shape
        assert len(lazy.ct_chunks) == 9
        for row in range(9):
            np.testing.assert_array_equal(lazy.ct_chunks[row], cut.ct_chunks[row])
        for name in ("center_irc", "center_xyz", "candidate_id"):
            np.testing.assert_array_equal(getattr(lazy, name), getattr(cut, name))


def test_a_data_set_gives_the_same_batches_without_a_store(made):
    store, uncut, candidates = made
    batches = []
    for source in (store, uncut):
        index = build_cutout_index(candidates, FOLDS, source)
        data_set = pickle.loads(pickle.dumps(CutoutsDataset(index, source)))
        batches.append(data_set.__getitems__([20, 3, 3, 11]))
    for from_store, on_the_fly in zip(*batches, strict=True):
        np.testing.assert_array_equal(np.asarray(from_store), np.asarray(on_the_fly))


def test_nothing_is_written(tmp_path):
    catalogue, candidates = write_data_root(tmp_path)
    store = CutoutStore(tmp_path / "cutouts")
    UncutSeries(make_service(tmp_path, catalogue, candidates, store=store), UIDS).read(UIDS[0])
    assert not (tmp_path / "cutouts").exists()


def test_a_packed_ct_is_refused_by_name(tmp_path):
    catalogue, candidates = write_data_root(tmp_path)
    write_ct(tmp_path, UIDS[1], random_hounsfield((12, 20, 24)), is_compressed=True)
    service = make_service(tmp_path, catalogue, candidates, store=CutoutStore(tmp_path / "cutouts"))
    with pytest.raises(ValueError, match=rf"must be a raw MetaImage.*series {UIDS[1]}"):
        UncutSeries(service, UIDS)
