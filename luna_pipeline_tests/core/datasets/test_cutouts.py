import inspect
import pickle

import numpy as np
import pytest
import torch

from luna_pipeline.core.datasets.batch import FILLER
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, MalignantCutoutsDataset
from luna_pipeline.core.datasets.ratios import Draws
from luna_pipeline_tests.core.cutout_examples import write_examples

POSITIONS = [7, 0, 23, 7, 1]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    # Of the two nodules of each series the first is malignant, the second benign.
    return write_examples(tmp_path_factory.mktemp("cutouts"), ratings=(True, False))


def read_expected(examples, positions):
    """Voxels of rows of the index, read series by series."""
    index, store = examples
    rows = [index.iloc[position] for position in positions]
    chunks = [store.read(row["series_instance_uid"]).ct_chunks[row["row"]] for row in rows]
    return np.stack(chunks)[:, None].astype(np.float32)


def test_a_batch_holds_the_rows_asked_for_in_their_order(examples):
    index, store = examples
    batch = CutoutsDataset(index, store).__getitems__(POSITIONS)
    assert batch.chunks_hu.dtype == torch.float32
    assert np.array_equal(batch.chunks_hu.numpy(), read_expected(examples, POSITIONS))
    assert batch.labels.tolist() == index["class"].to_numpy()[POSITIONS].tolist()
    assert batch.candidate_id.tolist() == index["candidate_id"].to_numpy()[POSITIONS].tolist()


def test_rows_need_not_be_sorted_nor_complete(examples):
    index, store = examples
    shuffled = index.sample(frac=0.5, random_state=1)
    batch = CutoutsDataset(shuffled, store).__getitems__(range(len(shuffled)))
    expected = CutoutsDataset(index, store).__getitems__(shuffled.index.tolist())
    assert all(map(torch.equal, batch[:5], expected[:5]))


@pytest.mark.seed_defect(20, "i")
def test_a_nodule_is_1_and_everything_else_0(examples):
    index, store = examples
    labels = CutoutsDataset(index, store).labels
    assert labels.tolist() == [1, 0, 0, 1, 0, 0] * 4
    batch = CutoutsDataset(index, store).__getitems__(range(24))
    assert ((batch.chunks_hu[:, 0, 4, 4, 4] > -500) == (batch.labels == 1)).all()
    assert torch.equal(batch.groups, batch.labels)


@pytest.mark.seed_defect(4, 20, "i")
def test_a_malignant_nodule_is_1_and_benign_ones_and_others_are_0_and_told_apart(examples):
    dataset = MalignantCutoutsDataset(*examples)
    batch = dataset.__getitems__(range(24))
    assert batch.labels.tolist() == dataset.labels.tolist() == [1, 0, 0, 0, 0, 0] * 4
    assert batch.groups.tolist() == dataset.groups.tolist() == [2, 0, 0, 1, 0, 0] * 4
    assert dataset.group_names == ("non_nodule", "benign", "malignant")
    assert ((batch.chunks_hu[:, 0, 4, 4, 4] > 50) == (batch.labels == 1)).all()


def test_nodules_that_nobody_rated_are_no_part_of_malignancy(examples):
    index, store = examples
    unrated = index.assign(is_malignant=index["is_malignant"].where(index["candidate_id"] != 1003))
    with pytest.raises(
        ValueError, match=r"non_nodule, benign or malignant, got 1 of which .* \(the first of series 1.11\)"
    ):
        MalignantCutoutsDataset(unrated, store)
    usable = MalignantCutoutsDataset(MalignantCutoutsDataset.usable(unrated), store)
    assert sorted({*index["candidate_id"]} - {*usable.candidate_id.tolist()}) == [1003]
    assert len(CutoutsDataset.usable(unrated)) == 24


def test_a_rating_of_something_that_is_no_nodule_says_nothing(examples):
    index, store = examples
    dataset = MalignantCutoutsDataset(index.assign(is_malignant=index["is_malignant"].fillna(value=True)), store)
    assert dataset.groups.tolist() == [2, 0, 0, 1, 0, 0] * 4


@pytest.mark.parametrize("dataset", [CutoutsDataset, MalignantCutoutsDataset])
def test_the_fingerprint_is_of_the_labels_that_the_data_set_has(examples, dataset):
    index, store = examples
    relabelled = index.assign(is_malignant=index["is_malignant"].mask(index["candidate_id"] == 3, other=True))
    before, after = dataset(index, store).fingerprint, dataset(relabelled, store).fingerprint
    assert (before == after) == (dataset is CutoutsDataset)
    assert dataset(index.sample(frac=1, random_state=0), store).fingerprint == before


@pytest.mark.seed_defect(9, 10)
@pytest.mark.parametrize("dataset", [CutoutsDataset, MalignantCutoutsDataset])
def test_the_evaluation_type_cannot_be_asked_to_change_or_balance(dataset):
    assert list(inspect.signature(dataset).parameters) == ["index", "store"]
    assert list(inspect.signature(dataset.__getitems__).parameters) == ["self", "wanted"]
    methods = inspect.getmembers(dataset, inspect.isroutine)
    assert {name for name, _ in methods if name[0] != "_"} == {"usable", "groups_of"}


@pytest.mark.seed_defect(9, 10)
@pytest.mark.parametrize("dataset", [CutoutsDataset, MalignantCutoutsDataset])
def test_an_item_is_the_same_whenever_it_is_asked_for(examples, dataset):
    first, *others = [dataset(*examples).__getitems__(POSITIONS) for _ in range(3)]
    assert np.array_equal(first.chunks_hu.numpy(), read_expected(examples, POSITIONS))
    assert all(torch.equal(first.chunks_hu, other.chunks_hu) for other in others)


def test_drawn_positions_come_with_what_the_loader_knows_of_them(examples):
    dataset = CutoutsDataset(*examples)
    draws = Draws(positions=np.array(POSITIONS), repeats=np.array([0, 0, 0, 1, FILLER]), num_in_step=12)
    drawn, plain = dataset.__getitems__(draws), dataset.__getitems__(POSITIONS)
    assert all(map(torch.equal, drawn[:4], plain[:4]))
    assert (drawn.repeat.tolist(), drawn.num_in_step) == ([0, 0, 0, 1, FILLER], 12)
    assert (plain.repeat.tolist(), plain.num_in_step) == ([0] * 5, 5)


@pytest.mark.seed_defect(13)
def test_a_batch_may_be_changed_by_its_user(examples):
    dataset = CutoutsDataset(*examples)
    dataset.__getitems__(POSITIONS).chunks_hu.zero_()
    assert np.array_equal(dataset.__getitems__(POSITIONS).chunks_hu, read_expected(examples, POSITIONS))


def test_an_item_is_a_batch_of_one(examples):
    assert torch.equal(CutoutsDataset(*examples)[7].chunks_hu, CutoutsDataset(*examples).__getitems__([7]).chunks_hu)


def test_a_worker_is_sent_no_voxels(examples):
    dataset = CutoutsDataset(*examples)
    content = pickle.dumps(dataset)
    assert len(content) < 24 * 512 * 2
    assert torch.equal(pickle.loads(content)[3].chunks_hu, dataset[3].chunks_hu)


def test_it_says_its_series_and_shape(examples):
    dataset = CutoutsDataset(*examples)
    assert dataset.series == ["1.10", "1.11", "1.12", "1.13"]
    assert dataset.chunk_shape_irc == (8, 8, 8)
    assert len(dataset) == 24


@pytest.mark.seed_defect(17)
def test_a_series_without_its_file_is_refused_at_once(examples, tmp_path):
    index, store = examples
    other = index.assign(series_instance_uid=index["series_instance_uid"].replace("1.12", "1.99"))
    with pytest.raises(FileNotFoundError, match=r"series 1\.99"):
        CutoutsDataset(other, store)


@pytest.mark.seed_defect(17)
@pytest.mark.parametrize("column", ["row", "class", "fingerprint", "series_instance_uid"])
def test_a_row_with_a_missing_value_is_refused(examples, column):
    index, store = examples
    broken = index.astype({"row": "Int64", "class": "Int64"})
    broken.loc[2, column] = None
    with pytest.raises(ValueError, match="Every row of the index must be complete, got 1 row"):
        CutoutsDataset(broken, store)


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.assign(candidate_id=index["candidate_id"] + 1),
        lambda index: index.assign(row=index["row"] + 1),
        lambda index: index.assign(fingerprint="0" * 64),
    ],
)
def test_an_index_of_other_cutouts_is_refused(examples, change):
    index, store = examples
    with pytest.raises(ValueError, match=r"made of the cutouts that are there, got others \(series 1.10\)"):
        CutoutsDataset(change(index), store)


@pytest.mark.seed_defect(20)
def test_a_third_class_and_an_empty_table_are_refused(examples):
    index, store = examples
    with pytest.raises(ValueError, match=r"Class must be 0 or 1, got \[0, 1, 2\]"):
        CutoutsDataset(index.assign(**{"class": [2, *index["class"][1:]]}), store)
    with pytest.raises(ValueError, match="at least one candidate, got none"):
        CutoutsDataset(index.iloc[:0], store)


def test_cutouts_of_two_shapes_are_refused(tmp_path):
    index, store = write_examples(tmp_path)
    write_examples(tmp_path, folds={"1.10": 0}, shape_irc=(8, 8, 10))
    with pytest.raises(ValueError, match=r"one shape, got \(8, 8, 10\) \(series 1.10\), \(8, 8, 8\) \(series 1.13\)"):
        CutoutsDataset(index.assign(fingerprint=[store.digest(uid) for uid in index["series_instance_uid"]]), store)
