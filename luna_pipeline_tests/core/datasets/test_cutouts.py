import inspect
import pickle

import numpy as np
import pytest
import torch

from luna_pipeline.core.datasets.augmentation import AugmentationConfig, draw_flips
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, TrainingCutoutsDataset
from luna_pipeline_tests.core.cutout_examples import write_examples

ALWAYS = AugmentationConfig(flip_probability=1.0)
NEVER = AugmentationConfig(flip_probability=0.0)
POSITIONS = [7, 0, 23, 7, 1]


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cutouts"))


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
    assert all(map(torch.equal, batch, expected))


@pytest.mark.seed_defect(20, "i")
def test_a_nodule_is_1_and_everything_else_0(examples):
    index, store = examples
    labels = CutoutsDataset(index, store).labels
    assert labels.tolist() == [1, 0, 0, 1, 0, 0] * 4
    middles = CutoutsDataset(index, store).__getitems__(range(24)).chunks_hu[:, 0, 4, 4, 4].numpy()
    assert ((middles > -500) == (labels == 1)).all()


@pytest.mark.seed_defect(9, 10)
def test_the_evaluation_type_cannot_be_asked_to_change_or_balance():
    assert list(inspect.signature(CutoutsDataset).parameters) == ["index", "store"]
    assert not hasattr(CutoutsDataset, "set_epoch")


@pytest.mark.seed_defect("m")
def test_training_flips_what_was_drawn(examples):
    index, store = examples
    dataset = TrainingCutoutsDataset(index, store, augmentation=AugmentationConfig(), seed=5)
    dataset.set_epoch(3)
    batch = dataset.__getitems__(POSITIONS)
    flips = draw_flips(batch.candidate_id.numpy(), seed=5, epoch=3, probability=0.5)
    assert flips.any()
    assert not flips.all()
    for got, plain, axes in zip(batch.chunks_hu, read_expected(examples, POSITIONS), flips, strict=True):
        assert np.array_equal(got[0].numpy(), np.flip(plain[0], np.flatnonzero(axes)))


def test_training_without_changes_is_evaluation(examples):
    training = TrainingCutoutsDataset(*examples, augmentation=NEVER, seed=5).__getitems__(POSITIONS)
    assert torch.equal(training.chunks_hu, CutoutsDataset(*examples).__getitems__(POSITIONS).chunks_hu)


@pytest.mark.seed_defect(13)
def test_changes_do_not_reach_the_files_nor_the_next_epoch(examples):
    dataset = TrainingCutoutsDataset(*examples, augmentation=ALWAYS, seed=5)
    first = dataset.__getitems__(POSITIONS).chunks_hu.clone()
    assert torch.equal(dataset.__getitems__(POSITIONS).chunks_hu, first)
    assert np.array_equal(
        CutoutsDataset(*examples).__getitems__(POSITIONS).chunks_hu, read_expected(examples, POSITIONS)
    )


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
