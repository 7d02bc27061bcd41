from collections import Counter

import numpy as np
import pytest

from luna_pipeline.core.datasets.ratios import NoduleRatio, RatioSampler

RATIO = NoduleRatio(nodule=1, non_nodule=3)
LABELS = np.array([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], dtype=np.int8)  # 2 nodules, 10 others


def draw(epoch, labels=LABELS, *, ratio=RATIO, seed=0):
    sampler = RatioSampler(labels, ratio=ratio, seed=seed)
    sampler.epoch = epoch
    return list(sampler)


@pytest.mark.seed_defect(8)
def test_an_epoch_is_as_long_as_the_table():
    sampler = RatioSampler(LABELS, ratio=RATIO, seed=0)
    assert len(sampler) == len(list(sampler)) == 12


def test_every_stretch_has_the_ratio():
    labels = LABELS[draw(1)]
    assert [labels[start : start + 4].sum() for start in (0, 4, 8)] == [1, 1, 1]


@pytest.mark.seed_defect(5)
def test_every_candidate_of_a_class_comes_before_one_comes_twice():
    drawn = np.concatenate([draw(epoch) for epoch in range(1, 11)])
    for label, size in ((0, 10), (1, 2)):
        of_class = drawn[LABELS[drawn] == label]
        passes = [of_class[start : start + size] for start in range(0, len(of_class), size)]
        assert len(passes) >= 9
        assert all(len(set(one.tolist())) == len(one) for one in passes)


@pytest.mark.seed_defect(5)
def test_no_candidate_is_left_out_of_a_large_table():
    labels = np.zeros(6000, dtype=np.int8)
    labels[::100] = 1
    ratio = NoduleRatio(nodule=1, non_nodule=5)
    counts = Counter(position for epoch in (1, 2) for position in draw(epoch, labels, ratio=ratio))
    # Two epochs draw 10,000 of 5,940 others: each once or twice; and 2,000 of 60 nodules: 33 or 34 times.
    assert {counts[position] for position in np.flatnonzero(labels == 0)} == {1, 2}
    assert {counts[position] for position in np.flatnonzero(labels == 1)} == {33, 34}


@pytest.mark.seed_defect(6, 7)
def test_the_order_is_shuffled_anew_each_epoch_and_by_the_seed():
    orders = {tuple(draw(epoch, seed=seed)) for epoch in (1, 2, 3) for seed in (0, 1)}
    assert len(orders) == 6
    assert not any(list(order) == sorted(order) for order in orders)


@pytest.mark.seed_defect(6, 7)
def test_neither_passes_nor_places_of_the_classes_repeat():
    drawn = np.concatenate([draw(epoch) for epoch in range(1, 11)])
    others = drawn[LABELS[drawn] == 0]
    assert len({tuple(others[start : start + 10]) for start in range(0, 90, 10)}) == 9
    labels = np.arange(400) % 4 == 0
    places = np.flatnonzero(labels[draw(1, labels)]) % 4
    assert set(places.tolist()) == {0, 1, 2, 3}


def test_an_epoch_is_drawn_alike_with_and_without_the_ones_before():
    sampler = RatioSampler(LABELS, ratio=RATIO, seed=0)
    for epoch in (1, 2, 3):
        sampler.epoch = epoch
        order = list(sampler)
    assert order == draw(3)


@pytest.mark.parametrize("label", [0, 1])
def test_a_missing_class_is_refused(label):
    with pytest.raises(ValueError, match=r"candidates of both classes, got \d nodules and \d others"):
        RatioSampler(np.full(4, label), ratio=RATIO, seed=0)


def test_a_table_shorter_than_the_ratio_is_drawn_whole():
    assert len(draw(1, np.array([0, 1]), ratio=NoduleRatio(nodule=1, non_nodule=5))) == 2
