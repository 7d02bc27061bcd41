import os
import pickle

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.cutouts import on_the_fly
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
    return store, UncutSeries(service), candidates


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
    for from_store, uncut_batch in zip(*batches, strict=True):
        np.testing.assert_array_equal(np.asarray(from_store), np.asarray(uncut_batch))


def test_the_index_is_that_of_the_files(made):
    store, uncut, candidates = made
    of_files, computed = (build_cutout_index(candidates, FOLDS, source) for source in (store, uncut))
    pd.testing.assert_frame_equal(of_files, computed)
    for uid in UIDS:
        assert uncut.header(uid) == store.header(uid)


def test_a_ct_is_hashed_once_and_only_where_no_file_or_record_has_its_content(tmp_path, monkeypatch):
    catalogue, candidates = write_data_root(tmp_path)
    store = CutoutStore(tmp_path / "cutouts")
    service = make_service(tmp_path, catalogue, candidates, store=store)
    service.cut_series(UIDS[0])
    hashed = []
    monkeypatch.setattr(on_the_fly, "content_fingerprint", lambda files: hashed.append(files) or "0" * 32)
    for _ in range(2):
        uncut = UncutSeries(make_service(tmp_path, catalogue, candidates, store=store))
        uncut.identity(UIDS[0])
        uncut.identity(UIDS[1])
    assert len(hashed) == 1
    assert store.kept_ct_content(UIDS[0], "other") is None


def test_a_ct_that_was_changed_since_it_was_catalogued_is_refused(tmp_path):
    catalogue, candidates = write_data_root(tmp_path)
    write_ct(tmp_path, UIDS[1], random_hounsfield((12, 20, 24), seed=9))
    os.utime(tmp_path / f"{UIDS[1]}.raw", (1, 1))
    service = make_service(tmp_path, catalogue, candidates, store=CutoutStore(tmp_path / "cutouts"))
    with pytest.raises(ValueError, match=rf"as catalogued.*series {UIDS[1]}.*--index-only"):
        UncutSeries(service).read(UIDS[1])
    assert service.store.kept_ct_content(UIDS[1], service.job(UIDS[1]).wanted.ct) is None


def test_a_candidate_outside_its_ct_leaves_the_series_out_of_the_index(tmp_path):
    catalogue, candidates = write_data_root(tmp_path)
    candidates.loc[candidates["series_instance_uid"] == UIDS[2], "z_mm"] += 1e4
    service = make_service(tmp_path, catalogue, candidates, store=CutoutStore(tmp_path / "cutouts"))
    left_out: dict[str, str] = {}
    index = build_cutout_index(candidates, FOLDS, UncutSeries(service), left_out=left_out)
    assert set(index["series_instance_uid"]) == set(UIDS[:2])
    assert list(left_out) == [UIDS[2]]


def test_no_cutouts_are_written(tmp_path):
    catalogue, candidates = write_data_root(tmp_path)
    store = CutoutStore(tmp_path / "cutouts")
    UncutSeries(make_service(tmp_path, catalogue, candidates, store=store)).read(UIDS[0])
    assert store.uids() == []


def test_a_packed_ct_is_refused_by_name(tmp_path):
    catalogue, candidates = write_data_root(tmp_path)
    write_ct(tmp_path, UIDS[1], random_hounsfield((12, 20, 24)), is_compressed=True)
    service = make_service(tmp_path, catalogue, candidates, store=CutoutStore(tmp_path / "cutouts"))
    with pytest.raises(ValueError, match=rf"must be a raw MetaImage.*series {UIDS[1]}"):
        UncutSeries(service).identity(UIDS[1])
