import pytest
import torch

from luna_pipeline.core.datasets.augmentation import AugmentationConfig
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, TrainingCutoutsDataset
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.datasets.ratios import NoduleRatio
from luna_pipeline_tests.core.cutout_examples import write_examples


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cutouts"))


def make_data_module(examples, *, num_workers=0, validation_fold=1, training_folds=(0, 2)) -> DataModule:
    index, store = examples
    training = index[index["fold"].isin(training_folds)]
    validation = index[index["fold"] == validation_fold]
    return DataModule(
        TrainingCutoutsDataset(training, store, augmentation=AugmentationConfig(), seed=11),
        CutoutsDataset(validation, store) if len(validation) else None,
        batch_size=4,
        ratio=NoduleRatio(nodule=1, non_nodule=1),
        num_workers=num_workers,
    )


def collect(loader):
    return [torch.cat(parts) for parts in zip(*loader, strict=True)]


def test_an_epoch_has_the_wanted_ratio_and_length(examples):
    chunks_hu, labels, _ = collect(make_data_module(examples).get_training_dataloader(epoch=1))
    assert chunks_hu.shape == (18, 1, 8, 8, 8)
    assert labels.sum() == 9


@pytest.mark.seed_defect(9, 10)
def test_validation_is_every_row_once_unchanged_and_in_its_own_ratio(examples):
    data_module = make_data_module(examples)
    got = collect(data_module.get_validation_dataloader())
    expected = data_module.validation.__getitems__(range(6))
    assert all(map(torch.equal, got, expected))
    assert got[1].tolist() == [1, 0, 0, 1, 0, 0]
    assert type(data_module.validation) is CutoutsDataset


@pytest.mark.seed_defect(6, 14)
def test_epochs_differ_and_repeat_by_their_number(examples):
    data_module = make_data_module(examples)
    first, second, again = (collect(data_module.get_training_dataloader(epoch=epoch)) for epoch in (1, 2, 1))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[2], second[2])


@pytest.mark.seed_defect(14)
def test_a_candidate_is_changed_otherwise_in_another_epoch(examples):
    data_module = make_data_module(examples)
    chunks = {}
    for epoch in (1, 2):
        chunks_hu, _, ids = collect(data_module.get_training_dataloader(epoch=epoch))
        chunks[epoch] = dict(zip(ids.tolist(), chunks_hu, strict=True))
    shared = chunks[1].keys() & chunks[2].keys()
    assert len(shared) > 4
    assert not all(torch.equal(chunks[1][candidate], chunks[2][candidate]) for candidate in shared)


def test_workers_change_nothing(examples):
    alone, helped = (
        collect(make_data_module(examples, num_workers=count).get_training_dataloader(epoch=2)) for count in (0, 2)
    )
    assert all(map(torch.equal, alone, helped))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_leaves_the_random_numbers_of_torch_alone(examples, num_workers):
    before = torch.get_rng_state()
    data_module = make_data_module(examples, num_workers=num_workers)
    next(iter(data_module.get_training_dataloader(epoch=1)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.seed_defect(1)
def test_a_series_in_both_parts_is_refused(examples):
    with pytest.raises(ValueError, match=r"A series must be in one part, got 1 in training and validation \(1.11\)"):
        make_data_module(examples, training_folds=(0, 1))


def test_parts_of_two_shapes_are_refused(examples, tmp_path):
    other = write_examples(tmp_path, folds={"1.20": 1}, shape_irc=(8, 8, 10))
    training = TrainingCutoutsDataset(*examples, augmentation=AugmentationConfig(), seed=0)
    with pytest.raises(ValueError, match=r"one shape, got \(8, 8, 8\) and \(8, 8, 10\)"):
        DataModule(training, CutoutsDataset(*other), batch_size=2, ratio=NoduleRatio())


def test_without_validation_there_is_no_loader_for_it(examples):
    assert make_data_module(examples, validation_fold=9).get_validation_dataloader() is None


def test_fingerprint_tells_both_parts_apart(examples):
    whole = make_data_module(examples).fingerprint
    assert make_data_module(examples, num_workers=2).fingerprint == whole
    others = {
        make_data_module(examples, validation_fold=9).fingerprint,
        make_data_module(examples, training_folds=(0,)).fingerprint,
        make_data_module(examples, training_folds=(1, 2), validation_fold=0).fingerprint,
    }
    assert len(others | {whole}) == 4
