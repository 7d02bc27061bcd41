from collections import Counter

import numpy as np
import pytest

from luna_pipeline.core.datasets.ratios import MalignantRatio, NoduleRatio, RatioSampler

NODULE = ("non_nodule", "nodule")
MALIGNANCY = ("non_nodule", "benign", "malignant")
RATIO = NoduleRatio(nodule=1, non_nodule=3)
LABELS = np.array([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], dtype=np.int8)  # 2 nodules, 10 others
GROUPS = np.array([0, 2, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 2])  # 10 others, 3 benign, 2 malignant


def draw(epoch, labels=LABELS, *, ratio=RATIO, seed=0):
    return RatioSampler(labels, NODULE, ratio=ratio, seed=seed).positions(epoch).tolist()


def draw_malignancy(epoch, groups=GROUPS):
    ratio = MalignantRatio(malignant=1, benign=2, non_nodule=2)
    return RatioSampler(groups, MALIGNANCY, ratio=ratio, seed=3).positions(epoch)


@pytest.mark.seed_defect(8)
def test_an_epoch_is_as_long_as_the_table():
    sampler = RatioSampler(LABELS, NODULE, ratio=RATIO, seed=0)
    assert len(sampler) == len(sampler.positions(1)) == 12


def test_every_stretch_has_the_ratio():
    labels = LABELS[draw(1)]
    assert [labels[start : start + 4].sum() for start in (0, 4, 8)] == [1, 1, 1]


@pytest.mark.seed_defect(4, "i")
def test_every_stretch_has_the_ratio_of_three_groups_and_each_slot_its_own_candidates():
    for epoch in (1, 2, 7):
        stretches = GROUPS[draw_malignancy(epoch)].reshape(3, 5)
        assert [sorted(stretch) for stretch in stretches.tolist()] == [[0, 0, 1, 1, 2]] * 3


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (1, [5, 8, 4, 2, 0, 1, 1, 3, 6, 5]),
        (2, [1, 9, 7, 0, 8, 5, 1, 2, 9, 5]),
        (3, [5, 6, 4, 3, 7, 1, 1, 4, 2, 5]),
        (30, [5, 9, 6, 4, 2, 1, 5, 7, 3, 1]),
    ],
)
def test_the_order_of_nodules_is_that_of_version_0_1(epoch, expected):
    # Drawn with the sampler of commit ab64f34, which knew two classes only.
    labels = np.array([0, 1, 0, 0, 0, 1, 0, 0, 0, 0])
    assert draw(epoch, labels, ratio=NoduleRatio(nodule=1, non_nodule=2), seed=7) == expected


@pytest.mark.seed_defect(5)
def test_every_candidate_of_a_class_comes_before_one_comes_twice():
    drawn = np.concatenate([draw(epoch) for epoch in range(1, 11)])
    for label, size in ((0, 10), (1, 2)):
        of_class = drawn[LABELS[drawn] == label]
        passes = [of_class[start : start + size] for start in range(0, len(of_class), size)]
        assert len(passes) >= 9
        assert all(len(set(one.tolist())) == len(one) for one in passes)


@pytest.mark.seed_defect(4, 5, "i")
def test_every_benign_and_every_malignant_nodule_comes_before_one_comes_twice():
    drawn = np.concatenate([draw_malignancy(epoch) for epoch in range(1, 8)])
    for group, size in ((0, 10), (1, 3), (2, 2)):
        of_group = drawn[GROUPS[drawn] == group]
        passes = [of_group[start : start + size] for start in range(0, len(of_group) - size + 1, size)]
        assert len(passes) >= 4
        assert all(set(one.tolist()) == set(np.flatnonzero(group == GROUPS).tolist()) for one in passes)


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
    sampler = RatioSampler(LABELS, NODULE, ratio=RATIO, seed=0)
    orders = [sampler.positions(epoch).tolist() for epoch in (1, 2, 3)]
    assert orders[-1] == draw(3)


def test_a_repeat_counts_how_often_a_position_came_before_in_its_epoch():
    sampler = RatioSampler(LABELS, NODULE, ratio=NoduleRatio(nodule=3, non_nodule=1), seed=0)
    positions, repeats = sampler.positions(2).tolist(), sampler.repeats(2).tolist()
    assert repeats == [positions[:place].count(position) for place, position in enumerate(positions)]
    assert max(repeats) >= 3


@pytest.mark.parametrize(("label", "missing"), [(0, r"nodule \(4 non_nodule, 0 nodule\)"), (1, "non_nodule")])
def test_a_missing_class_is_refused_by_name(label, missing):
    with pytest.raises(ValueError, match=f"every group of the ratio, got none of {missing}"):
        RatioSampler(np.full(4, label), NODULE, ratio=RATIO, seed=0)


@pytest.mark.seed_defect(19)
def test_training_without_benign_nodules_is_refused_by_name():
    with pytest.raises(ValueError, match=r"got none of benign \(10 non_nodule, 0 benign, 5 malignant\)"):
        RatioSampler(np.where(GROUPS == 1, 2, GROUPS), MALIGNANCY, ratio=MalignantRatio(), seed=0)


def test_nodules_alone_are_drawn_in_the_ratio_of_benign_and_malignant_ones():
    groups = np.array([1] * 30 + [2] * 6)
    sampler = RatioSampler(groups, MALIGNANCY, ratio=MalignantRatio(malignant=1, benign=2, non_nodule=9), seed=0)
    drawn = groups[sampler.positions(1)]
    assert np.bincount(drawn).tolist() == [0, 24, 12]
    assert all(sorted(drawn[start : start + 3]) == [1, 1, 2] for start in range(0, 36, 3))
    few = RatioSampler(groups[28:32], MALIGNANCY, ratio=MalignantRatio(), seed=0)
    assert few.warning is not None
    assert "non_nodule" not in few.warning


@pytest.mark.parametrize(("names", "ratio"), [(MALIGNANCY, NoduleRatio()), (NODULE, MalignantRatio())])
def test_a_ratio_of_other_groups_is_refused(names, ratio):
    with pytest.raises(ValueError, match=f"of the data set's groups {', '.join(names)}, got {', '.join(ratio.shares)}"):
        RatioSampler(np.arange(4) % len(names), names, ratio=ratio, seed=0)


@pytest.mark.parametrize("group", ["malignant", "benign", "non_nodule"])
def test_a_share_of_nothing_is_refused(group):
    with pytest.raises(ValueError, match=f"ratio.{group} must be from 1 to 1000000, got 0"):
        MalignantRatio(**{group: 0})


def test_a_table_shorter_than_the_ratio_is_drawn_whole():
    assert len(draw(1, np.array([0, 1]), ratio=NoduleRatio(nodule=1, non_nodule=5))) == 2


SMALL = (np.arange(36) % 9 == 0).astype(np.int8)  # 4 nodules, 32 others
RARE = NoduleRatio(nodule=1, non_nodule=99)


@pytest.mark.parametrize("seed", range(20))
def test_epochs_shorter_than_the_ratio_show_every_class_as_the_ratio_says(seed):
    drawn = np.concatenate([draw(epoch, SMALL, ratio=RARE, seed=seed) for epoch in range(1, 101)])
    assert SMALL[drawn].reshape(36, 100).sum(axis=1).tolist() == [1] * 36
    nodules = drawn[SMALL[drawn] == 1].reshape(9, 4)
    assert all(set(one) == {0, 9, 18, 27} for one in nodules.tolist())


def test_short_epochs_of_three_groups_have_the_ratio_over_epochs():
    ratio = MalignantRatio(malignant=1, benign=20, non_nodule=9)
    sampler = RatioSampler(GROUPS, MALIGNANCY, ratio=ratio, seed=5)
    groups = GROUPS[np.concatenate([sampler.positions(epoch) for epoch in range(1, 11)])]
    assert all(np.bincount(part).tolist() == [9, 20, 1] for part in groups.reshape(5, 30))
    assert len({tuple(part) for part in groups.reshape(5, 30).tolist()}) == 5


def test_a_short_epoch_is_drawn_alike_with_and_without_the_ones_before():
    sampler = RatioSampler(SMALL, NODULE, ratio=RARE, seed=3)
    orders = [sampler.positions(epoch).tolist() for epoch in range(1, 30)]
    assert orders[28] == draw(29, SMALL, ratio=RARE, seed=3)
    assert orders != [draw(epoch, SMALL, ratio=RARE, seed=4) for epoch in range(1, 30)]


@pytest.mark.parametrize(
    ("ratio", "warning"),
    [
        (NoduleRatio(nodule=1, non_nodule=35), None),
        (
            NoduleRatio(nodule=1, non_nodule=36),
            "An epoch must have at least the 37 samples of the ratio to show it whole, got 36 (samples per epoch on "
            "average: nodule 0.973, non_nodule 35). Lower the ratio, or train more epochs.",
        ),
    ],
)
def test_an_epoch_that_is_too_short_for_the_ratio_is_reported(ratio, warning):
    assert RatioSampler(SMALL, NODULE, ratio=ratio, seed=0).warning == warning


def test_a_share_that_no_memory_could_hold_is_refused():
    with pytest.raises(ValueError, match=r"ratio.non_nodule must be from 1 to 1000000, got 1000001"):
        NoduleRatio(non_nodule=1_000_001)
