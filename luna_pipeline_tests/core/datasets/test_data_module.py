import hashlib
from types import SimpleNamespace

import pytest
import torch

from luna_pipeline.core.datasets import loading_workers
from luna_pipeline.core.datasets.batch import FILLER, CutoutBatch
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, MalignantCutoutsDataset
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.datasets.ratios import MalignantRatio, NoduleRatio, RatioSampler
from luna_pipeline.core.datasets.splits import index_fingerprint
from luna_pipeline.core.events.messages import Mode
from luna_pipeline_tests.core.cutout_examples import write_examples

EVEN = NoduleRatio(nodule=1, non_nodule=1)
THREE = MalignantRatio(malignant=1, benign=1, non_nodule=1)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cutouts"), ratings=(True, False))


def make_data_module(
    examples, *, dataset=CutoutsDataset, ratio=EVEN, validation_fold=1, training_folds=(0, 2), **options
) -> DataModule:
    index, store = examples
    training = index[index["fold"].isin(training_folds)]
    validation = index[index["fold"] == validation_fold]
    return DataModule(
        dataset(training, store),
        dataset(validation, store) if len(validation) else None,
        **{"batch_size": 4, "ratio": ratio, "seed": 11, **options},
    )


def collect(loader) -> CutoutBatch:
    *tensors, num_in_step = zip(*loader, strict=True)
    return CutoutBatch(*[torch.cat(parts) for parts in tensors], num_in_step)


def are_equal(one, other) -> bool:
    return all(map(torch.equal, one[:-1], other[:-1])) and one.num_in_step == other.num_in_step


def test_an_epoch_has_the_wanted_ratio_and_length(examples):
    data_module = make_data_module(examples)
    epoch = collect(data_module.get_training_dataloader(epoch=1))
    assert epoch.chunks_hu.shape == (18, 1, 8, 8, 8)
    assert epoch.labels.sum() == 9
    assert epoch.num_in_step == (4, 4, 4, 4, 2)
    assert data_module.num_training_batches == len(data_module.get_training_dataloader(epoch=1)) == 5


@pytest.mark.seed_defect(4, "i")
def test_an_epoch_of_malignancy_has_malignant_benign_and_other_candidates_in_the_wanted_ratio(examples):
    data_module = make_data_module(examples, dataset=MalignantCutoutsDataset, ratio=THREE)
    epoch = collect(data_module.get_training_dataloader(epoch=2))
    assert [sorted(stretch) for stretch in epoch.groups.reshape(6, 3).tolist()] == [[0, 1, 2]] * 6
    assert torch.equal(epoch.labels == 1, epoch.groups == 2)


@pytest.mark.seed_defect(6)
def test_the_order_of_an_epoch_is_that_of_the_sampler(examples):
    data_module = make_data_module(examples, ratio=NoduleRatio(nodule=5, non_nodule=1))
    sampler = RatioSampler(
        data_module.training.groups, ("non_nodule", "nodule"), ratio=NoduleRatio(nodule=5, non_nodule=1), seed=11
    )
    epoch = collect(data_module.get_training_dataloader(epoch=3))
    assert epoch.candidate_id.tolist() == data_module.training.candidate_id[sampler.positions(3)].tolist()
    assert epoch.repeat.tolist() == sampler.repeats(3).tolist()
    assert epoch.repeat.max() == 2


@pytest.mark.seed_defect(9, 10)
@pytest.mark.parametrize(("dataset", "ratio"), [(CutoutsDataset, EVEN), (MalignantCutoutsDataset, THREE)])
def test_validation_is_every_row_once_unchanged_and_in_its_own_ratio(examples, dataset, ratio):
    data_module = make_data_module(examples, dataset=dataset, ratio=ratio)
    got = collect(data_module.get_validation_dataloader())
    expected = data_module.validation.__getitems__(range(6))
    assert all(map(torch.equal, got[:-1], expected[:-1]))
    assert got.labels.tolist() == ([1, 0, 0, 1, 0, 0] if dataset is CutoutsDataset else [1, 0, 0, 0, 0, 0])
    assert type(data_module.validation) is dataset
    assert not got.repeat.any()


@pytest.mark.seed_defect(6, 14)
def test_epochs_differ_and_repeat_by_their_number(examples):
    data_module = make_data_module(examples)
    first, second, again = (collect(data_module.get_training_dataloader(epoch=epoch)) for epoch in (1, 2, 1))
    assert are_equal(first, again)
    assert not torch.equal(first.candidate_id, second.candidate_id)


@pytest.mark.parametrize("mode", [Mode.TRAINING, Mode.VALIDATION])
def test_workers_change_nothing(examples, mode):
    options = {"world_size": 2, "rank": 1, "accumulate_batches": 2}
    alone, helped = (
        list(make_data_module(examples, num_workers=count, **options).get_dataloader(mode, epoch=2)) for count in (0, 2)
    )
    assert len(alone) == len(helped)
    assert all(map(are_equal, alone, helped))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_leaves_the_random_numbers_of_torch_alone(examples, num_workers):
    before = torch.get_rng_state()
    data_module = make_data_module(examples, num_workers=num_workers)
    next(iter(data_module.get_training_dataloader(epoch=1)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("first_batch", [0, 1, 3, 5])
def test_an_epoch_can_be_taken_up_in_its_middle(examples, first_batch):
    data_module = make_data_module(examples, accumulate_batches=2)
    whole = list(data_module.get_dataloader(Mode.TRAINING, epoch=2))
    loader = data_module.get_dataloader(Mode.TRAINING, epoch=2, first_batch=first_batch)
    rest = list(loader)
    assert len(loader) == len(rest) == 5 - first_batch
    assert all(are_equal(one, other) for one, other in zip(rest, whole[first_batch:], strict=True))


def test_more_batches_than_there_are_cannot_be_skipped(examples):
    with pytest.raises(ValueError, match="first_batch must be from 0 to 5, got 6"):
        make_data_module(examples).get_training_dataloader(epoch=1, first_batch=6)


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("mode", [Mode.TRAINING, Mode.VALIDATION])
def test_processes_load_together_what_one_loads_alone(examples, mode, world_size):
    alone = list(make_data_module(examples).get_dataloader(mode, epoch=2))
    parts = [
        list(make_data_module(examples, rank=rank, world_size=world_size).get_dataloader(mode, epoch=2))
        for rank in range(world_size)
    ]
    for number, batch in enumerate(alone):
        together = collect([part[number] for part in parts])
        counted = together.repeat != FILLER
        assert all(torch.equal(got[counted], wanted) for got, wanted in zip(together[:-1], batch[:-1], strict=True))
        assert set(together.num_in_step) == {batch.num_in_step}
    assert {len(part) for part in parts} == {len(alone)}


def test_a_process_without_a_sample_gets_one_that_does_not_count(examples):
    # 18 samples in batches of 4: the last batch has two, for the first two processes only.
    last = [
        list(make_data_module(examples, rank=rank, world_size=4).get_training_dataloader(epoch=1))[-1]
        for rank in range(4)
    ]
    assert [batch.repeat.tolist() == [FILLER] for batch in last] == [False, False, True, True]
    assert last[2].candidate_id.tolist() == last[3].candidate_id.tolist() == last[0].candidate_id.tolist()


def test_a_batch_knows_how_many_samples_its_step_has(examples):
    # 18 samples in batches of 4, three of them a step: 12 and 6.
    for options in ({}, {"rank": 1, "world_size": 2}):
        batches = make_data_module(examples, accumulate_batches=3, **options).get_training_dataloader(epoch=1)
        assert [batch.num_in_step for batch in batches] == [12, 12, 12, 6, 6]
        validation = make_data_module(examples, accumulate_batches=3, **options).get_validation_dataloader()
        assert [batch.num_in_step for batch in validation] == [4, 2]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"accumulate_batches": 0}, "accumulate_batches must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "rank must be from 0 to 1, got 2"),
    ],
)
def test_a_plan_that_makes_no_batches_is_refused(examples, options, rule):
    with pytest.raises(ValueError, match=rule):
        make_data_module(examples, **options)


def test_a_run_cannot_ask_for_test_data(examples):
    with pytest.raises(ValueError, match="training or validation part, got test"):
        make_data_module(examples).get_dataloader(Mode.TEST)


@pytest.mark.seed_defect(1)
def test_a_series_in_both_parts_is_refused(examples):
    with pytest.raises(ValueError, match=r"A series must be in one part, got 1 in training and validation \(1.11\)"):
        make_data_module(examples, training_folds=(0, 1))


def test_parts_of_two_shapes_are_refused(examples, tmp_path):
    other = write_examples(tmp_path, folds={"1.20": 1}, shape_irc=(8, 8, 10))
    with pytest.raises(ValueError, match=r"one shape, got \(8, 8, 8\) and \(8, 8, 10\)"):
        DataModule(CutoutsDataset(*examples), CutoutsDataset(*other), batch_size=2, ratio=NoduleRatio(), seed=0)


def test_a_ratio_of_another_question_is_refused(examples):
    with pytest.raises(ValueError, match="groups non_nodule, benign, malignant, got nodule, non_nodule"):
        make_data_module(examples, dataset=MalignantCutoutsDataset, ratio=EVEN)


def test_without_validation_there_is_no_loader_for_it(examples):
    data_module = make_data_module(examples, validation_fold=9)
    assert data_module.get_validation_dataloader() is data_module.get_dataloader(Mode.VALIDATION) is None


def test_fingerprint_tells_both_parts_apart(examples):
    whole = make_data_module(examples).fingerprint
    assert make_data_module(examples, num_workers=2).fingerprint == whole
    others = {
        make_data_module(examples, validation_fold=9).fingerprint,
        make_data_module(examples, training_folds=(0,)).fingerprint,
        make_data_module(examples, training_folds=(1, 2), validation_fold=0).fingerprint,
        make_data_module(examples, dataset=MalignantCutoutsDataset, ratio=THREE).fingerprint,
    }
    assert len(others | {whole}) == 5


def test_fingerprint_of_nodules_is_that_of_version_0_1(examples):
    # Unfinished runs are found by it.
    data_module = make_data_module(examples)
    parts = [index_fingerprint(part.index) for part in (data_module.training, data_module.validation)]
    assert data_module.fingerprint == hashlib.sha256("\n".join(parts).encode()).hexdigest()


@pytest.mark.parametrize(("free_bytes", "num_workers"), [(5 * 8192, 2), (5 * 8192 - 1, 0)])
def test_workers_whose_batches_do_not_fit_into_shared_memory_are_not_started(
    examples, monkeypatch, caplog, free_bytes, num_workers
):
    status = SimpleNamespace(f_bavail=free_bytes, f_frsize=1)
    monkeypatch.setattr(loading_workers.os, "statvfs", lambda _folder: status)
    assert make_data_module(examples, num_workers=2).num_workers == num_workers
    assert ("--shm-size" in caplog.text) == (num_workers == 0)


def test_a_batch_that_cannot_be_sent_ends_its_worker_and_the_pass(examples, monkeypatch):
    def fail(_batch):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CutoutBatch, "__reduce__", fail)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        next(iter(make_data_module(examples, num_workers=1).get_training_dataloader(epoch=1)))


@pytest.mark.parametrize(("rank", "num_lines"), [(0, 1), (1, 0)])
def test_a_ratio_that_is_longer_than_an_epoch_is_reported_by_the_first_process(examples, caplog, rank, num_lines):
    make_data_module(examples, ratio=NoduleRatio(nodule=1, non_nodule=99), rank=rank, world_size=2)
    lines = [record.message for record in caplog.records]
    assert len(lines) == num_lines
    assert all("the 100 samples of the ratio to show it whole, got 18" in line for line in lines)


def test_processes_share_short_epochs_and_resume_within_them(examples):
    ratio = NoduleRatio(nodule=1, non_nodule=99)
    alone = make_data_module(examples, ratio=ratio)
    together = [make_data_module(examples, ratio=ratio, rank=rank, world_size=2) for rank in (0, 1)]
    for epoch in (1, 6):
        whole = list(alone.get_training_dataloader(epoch=epoch))[1:]
        parts = [list(each.get_training_dataloader(epoch=epoch, first_batch=1)) for each in together]
        for batch, *shards in zip(whole, *parts, strict=True):
            shown = [each.candidate_id[each.repeat != FILLER] for each in shards]
            assert torch.equal(torch.cat(shown).sort().values, batch.candidate_id.sort().values)
