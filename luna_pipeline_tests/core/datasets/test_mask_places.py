import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.datasets import mask_places
from luna_pipeline.core.datasets.mask_places import find_places, split_places
from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.datasets.volumes import CtVolumes
from luna_pipeline_tests.core.mask_examples import FOLDS, SHAPE_IRC, SIZE_IRC, folds_table, write_examples

SPLIT = TrainingSplit(test_fold=0, validation_fold=1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp("places")
    catalogue, candidates = write_examples(root)
    return candidates, CtVolumes.of_catalogue(catalogue, data_root=root / "data", cache_dir=root / "cache")


@pytest.fixture(scope="module")
def places(tables):
    candidates, volumes = tables
    return find_places(candidates, folds_table(), volumes, tile_shape_irc=SHAPE_IRC)


def test_each_series_has_nodules_look_alikes_body_and_tiles(places):
    counts = places.groupby(["series_instance_uid", "source"]).size().unstack()
    num_tiles = np.prod([-(-size // step) for size, step in zip(SIZE_IRC, SHAPE_IRC, strict=True)])
    assert (counts == [2, 16, 1, num_tiles]).all(axis=None)
    assert sorted(counts) == ["annotation", "body", "candidate", "tile"]
    assert places["candidate_id"].is_unique
    assert set(places.loc[places["source"] == "annotation", "group"]) == {2}
    # A candidate of class 1 is no look-alike.
    assert places.loc[places["source"] == "candidate", "group"].tolist() == [1] * len(FOLDS)


def test_tiles_cover_the_scan(tables, places):
    _, volumes = tables
    tiles = places[(places["source"] == "tile") & (places["series_instance_uid"] == "1.10")]
    middles = volumes.grid("1.10").nearest_voxel(tiles[["x_mm", "y_mm", "z_mm"]])
    covered = np.zeros(SIZE_IRC, dtype=int)
    for start in middles - np.array(SHAPE_IRC) // 2:
        covered[tuple(slice(first, first + size) for first, size in zip(start, SHAPE_IRC, strict=True))] += 1
    assert (covered == 1).all()
    assert (tiles["scan_share"] == 1.0).all()


def test_of_many_tiles_and_look_alikes_some_are_taken_and_tiles_stand_for_all(tables, monkeypatch):
    candidates, volumes = tables
    monkeypatch.setattr(mask_places, "MAX_TILES", 3)
    monkeypatch.setattr(mask_places, "MAX_LOOK_ALIKES", 4)
    more = candidates[candidates["class"] == 0]
    added = [more.assign(candidate_id=more["candidate_id"] + 1000 * number) for number in range(6)]
    places = find_places(pd.concat([candidates, *added[1:]]), folds_table(), volumes, tile_shape_irc=SHAPE_IRC)
    by_series = places[places["series_instance_uid"] == "1.11"]
    tiles = by_series[by_series["source"] == "tile"]
    assert tiles["scan_share"].tolist() == [pytest.approx(2 * 3 * 3 / 3)] * 3
    assert len(by_series[by_series["source"] == "candidate"]) == 4
    again = find_places(pd.concat([candidates, *added[1:]]), folds_table(), volumes, tile_shape_irc=SHAPE_IRC)
    pd.testing.assert_frame_equal(places, again)


def test_held_out_folds_are_in_no_other_part(places):
    training, validation = split_places(places, SPLIT)
    assert set(training["series_instance_uid"]) == {"1.12", "1.13"}
    assert set(validation["series_instance_uid"]) == {"1.11"}
    assert set(training["source"]) == {"annotation", "candidate", "body"}
    assert set(validation["source"]) == {"annotation", "tile"}
    assert split_places(places, TrainingSplit(test_fold=0, validation_fold=None))[1] is None


def test_data_that_cannot_be_trained_on_are_refused(tables, places):
    candidates, volumes = tables
    with pytest.raises(ValueError, match="A held-out fold must exist, got 7"):
        split_places(places, TrainingSplit(test_fold=0, validation_fold=7))
    with pytest.raises(ValueError, match="Training must hold annotated nodules, got none in 2 series"):
        split_places(places[places["source"] != "annotation"], SPLIT)
    moved = places.assign(fold=np.arange(len(places)) % 3)
    with pytest.raises(ValueError, match="Fold must be one per series"):
        split_places(moved, SPLIT)
    with pytest.raises(ValueError, match="Segmentation must have CTs with folds, got none of 1 series"):
        find_places(candidates, folds_table({"1.99": 0}), volumes, tile_shape_irc=SHAPE_IRC)
