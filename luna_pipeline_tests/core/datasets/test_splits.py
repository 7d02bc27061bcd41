import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.datasets.cutouts import CutoutsDataset, MalignantCutoutsDataset
from luna_pipeline.core.datasets.splits import TrainingSplit, default_split, index_fingerprint, split_index


def make_index(num_folds=5, series_per_fold=2, rows_per_series=4) -> pd.DataFrame:
    """Each series has nodule and others from the detector, and one annotated centre."""
    num_series = num_folds * series_per_fold
    series = np.repeat(np.arange(num_series), rows_per_series)
    place = np.tile(np.arange(rows_per_series), num_series)
    return pd.DataFrame(
        {
            "candidate_id": np.arange(len(series)),
            "series_instance_uid": [f"1.{uid}" for uid in series],
            "row": place,
            "class": (place < 2).astype(np.int8),
            "fold": series % num_folds,
            "source": np.where(place == 0, "annotation", "candidate"),
            # The nodules of a third of the series are benign, those of another third unrated.
            "is_malignant": pd.array(
                [(True, False, None)[uid % 3] if row < 2 else None for uid, row in zip(series, place, strict=True)],
                dtype="boolean",
            ),
            "fingerprint": [f"{uid:064x}" for uid in series],
        }
    )


SPLIT = TrainingSplit(test_fold=0, validation_fold=1)


@pytest.mark.seed_defect(1, 2, 3, "b")
@pytest.mark.parametrize("use_annotations", [False, True])
def test_no_series_lies_in_two_parts_and_each_fold_goes_where_it_belongs(use_annotations):
    parts = split_index(make_index(), SPLIT, use_annotations=use_annotations)
    series = [set(part["series_instance_uid"]) for part in parts]
    assert [len(uids) for uids in series] == [6, 2, 2]
    assert len(set.union(*series)) == 10
    assert [set(part["fold"]) for part in parts] == [{2, 3, 4}, {1}, {0}]


@pytest.mark.seed_defect(10, 15)
def test_validation_and_test_hold_all_candidates_of_the_detector_and_nothing_else():
    for use_annotations in (False, True):
        _, validation, test = split_index(make_index(), SPLIT, use_annotations=use_annotations)
        assert len(validation) == len(test) == 2 * 3
        assert {*validation["source"], *test["source"]} == {"candidate"}


@pytest.mark.seed_defect(15)
def test_annotations_train_only_when_asked_for():
    assert (split_index(make_index(), SPLIT)[0]["source"] == "candidate").all()
    training = split_index(make_index(), SPLIT, use_annotations=True)[0]
    assert (training["source"] == "annotation").sum() == 6


@pytest.mark.seed_defect(2, 3)
@pytest.mark.parametrize("split", [SPLIT, TrainingSplit(test_fold=3, validation_fold=None)])
def test_nodules_and_malignancy_never_part_a_series_differently(split):
    parts = [part for part in split_index(make_index(), split, use_annotations=True) if part is not None]
    nodules, malignancy = (
        [set(dataset.usable(part)["series_instance_uid"]) for part in parts]
        for dataset in (CutoutsDataset, MalignantCutoutsDataset)
    )
    assert nodules == malignancy
    assert sum(map(len, nodules)) == len(set.union(*nodules)) == 10


@pytest.mark.seed_defect(4, 10, "i")
def test_validation_of_malignancy_holds_every_rated_candidate_at_its_own_frequency():
    _, validation, _ = split_index(make_index(series_per_fold=3), SPLIT)
    usable = MalignantCutoutsDataset.usable(validation)
    # Three series with a nodule and two others each: one nodule malignant, one benign, one unrated.
    assert np.bincount(MalignantCutoutsDataset.groups_of(usable)).tolist() == [6, 1, 1]
    assert set(validation["candidate_id"]) - set(usable["candidate_id"]) == {45}


def test_without_validation_its_folds_train():
    training, validation, _ = split_index(make_index(), TrainingSplit(test_fold=0, validation_fold=None))
    assert validation is None
    assert set(training["fold"]) == {1, 2, 3, 4}


@pytest.mark.seed_defect(1)
def test_a_series_in_two_folds_is_refused_by_name():
    index = make_index()
    index.loc[5, "fold"] = 4
    with pytest.raises(ValueError, match=r"Fold must be one per series, got \[1, 4\] \(series 1.1, and 0 more\)"):
        split_index(index, SPLIT)


@pytest.mark.seed_defect(19)
@pytest.mark.parametrize(("label", "counts"), [(0, "0 nodules and 18 others"), (1, "18 nodules and 0 others")])
def test_training_without_a_class_is_refused(label, counts):
    index = make_index()
    index.loc[index["fold"] > 1, "class"] = label
    with pytest.raises(ValueError, match=f"candidates of both classes, got {counts}"):
        split_index(index, SPLIT)


def test_nodules_alone_are_split_for_malignancy_where_both_labels_are_there():
    index = make_index().assign(**{"class": 1})
    index["is_malignant"] = pd.array(np.arange(len(index)) % 2 == 0, dtype="boolean")
    training, _, _ = split_index(index, SPLIT, dataset="malignant_cutouts")
    assert set(training["class"]) == {1}
    for changes, dataset in (({}, "cutouts"), ({"is_malignant": True}, "malignant_cutouts")):
        with pytest.raises(ValueError, match="candidates of both classes, got 18 nodules"):
            split_index(index.assign(**changes), SPLIT, dataset=dataset)


def test_a_fold_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"held-out fold must exist, got 7 of folds \[0, 1, 2, 3, 4\]"):
        split_index(make_index(), TrainingSplit(test_fold=0, validation_fold=7))


def test_one_fold_cannot_choose_and_judge():
    with pytest.raises(ValueError, match="Test and validation must be two folds, got 3 for both"):
        TrainingSplit(test_fold=3, validation_fold=3)


@pytest.mark.parametrize(
    ("num_folds", "test_fold", "expected"),
    [(2, None, (0, None)), (2, 1, (1, None)), (3, None, (0, 1)), (3, 1, (1, 2)), (3, 2, (2, 0))],
)
def test_default_split(num_folds, test_fold, expected):
    split = default_split(make_index(num_folds), test_fold=test_fold)
    assert (split.test_fold, split.validation_fold) == expected


def test_default_split_keeps_what_was_chosen_and_needs_two_folds():
    assert default_split(make_index(), test_fold=1, validation_fold=4).validation_fold == 4
    with pytest.raises(ValueError, match=r"at least two folds, got \[0\]"):
        default_split(make_index(num_folds=1))


def test_fingerprint_of_an_index_is_that_of_version_0_1():
    # Computed with the function of commit ab64f34: unfinished runs are found by it.
    assert index_fingerprint(make_index()) == "e30cf5f06c25a1a17388a29e0accbbd364b8eb20f15faefdd10efb2bd89198e3"


def test_fingerprint_of_an_index_changes_with_a_further_label():
    index = make_index().assign(group=0)
    with_group = index_fingerprint(index, labels=("class", "group"))
    assert with_group != index_fingerprint(index)
    index.loc[3, "group"] = 2
    assert index_fingerprint(index, labels=("class", "group")) != with_group


@pytest.mark.parametrize("column", ["candidate_id", "class", "fold", "fingerprint"])
def test_fingerprint_of_an_index_changes_with_each_of_its_parts_and_not_with_the_order(column):
    index = make_index()
    before = index_fingerprint(index)
    assert index_fingerprint(index.sample(frac=1, random_state=0)) == before
    assert index_fingerprint(index.assign(row=0)) == before
    changed = index.copy()
    changed.loc[3, column] = "f" * 64 if column == "fingerprint" else index.loc[3, column] + 1
    assert index_fingerprint(changed) != before
    assert index_fingerprint(index.iloc[1:]) != before
