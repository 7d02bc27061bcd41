import pickle

import numpy as np
import pytest
import torch

from luna_pipeline.core.candidates.folds import assign_folds
from luna_pipeline.core.candidates.tables import build_candidates
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.datasets.crop_starts import drawn_start
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.datasets.mask_places import find_places, split_places
from luna_pipeline.core.datasets.masks import CropSource, NoduleMasksDataset, fill_crop
from luna_pipeline.core.datasets.ratios import Draws, PlaceRatio
from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.datasets.volumes import CtVolumes
from luna_pipeline_tests.core.mask_examples import CONFIG, NODULES, SHAPE_IRC, data_of

SPLIT = TrainingSplit(test_fold=0, validation_fold=1)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return data_of(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def training(examples):
    places, source = examples
    return NoduleMasksDataset(split_places(places, SPLIT)[0], source)


def drawn(dataset, rows, epoch, repeats=None):
    rows = np.asarray(rows, dtype=np.int64)
    repeats = np.zeros_like(rows) if repeats is None else np.asarray(repeats)
    return dataset.__getitems__(Draws(positions=rows, repeats=repeats, num_in_step=len(rows), epoch=epoch))


def rows_of(dataset, source):
    return np.flatnonzero(dataset.index["source"] == source)


def test_a_crop_is_the_part_of_the_ct_with_air_outside():
    hounsfield = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    crop = np.empty((4, 3, 3), dtype=np.float32)
    fill_crop(crop, hounsfield, np.array([-1, 1, -1]))
    expected = np.full((4, 3, 3), -1000.0)
    expected[1:3, :2, 1:] = hounsfield[:, 1:, :2]
    assert np.array_equal(crop, expected)


def test_a_slice_network_sees_the_outermost_slice_again_beyond_the_ends():
    hounsfield = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    crop = np.empty((5, 3, 4), dtype=np.float32)
    fill_crop(crop, hounsfield, np.array([-2, 0, 0]), repeats_slices=True)
    assert np.array_equal(crop, hounsfield[[0, 0, 0, 1, 1]])
    # A crop that lies wholly outside is air.
    fill_crop(crop, hounsfield, np.array([7, 0, 0]), repeats_slices=True)
    assert (crop == -1000).all()


def test_hu_are_limited_to_the_window():
    hounsfield = np.array([[[-3024, -1001, -1000, 0, 1000, 3071]]], dtype=np.int16)
    crop = np.empty((1, 1, 6), dtype=np.float32)
    fill_crop(crop, hounsfield, np.zeros(3, dtype=np.int64))
    assert crop.ravel().tolist() == [-1000, -1000, -1000, 0, 1000, 1000]


def test_in_evaluation_the_place_is_the_middle_voxel(training):
    row = rows_of(training, "annotation")[0]
    batch = training[int(row)]
    assert batch.chunks_hu.shape == batch.masks.shape == (1, 1, *SHAPE_IRC)
    middle = tuple(size // 2 for size in SHAPE_IRC)
    assert batch.masks[0, 0][middle] == 1
    assert batch.labels.tolist() == [1]
    # The dense ball of the file is where the mask is.
    is_ball = batch.masks[0, 0] == 1
    assert batch.chunks_hu[0, 0][is_ball].min() > -150
    expected = np.pi / 6 * NODULES[0][1] ** 3 / (1.5 * 0.8 * 0.8)
    assert is_ball.sum() == pytest.approx(expected, rel=0.15)


def test_crops_around_nodules_hold_them_at_random_places(training):
    row = rows_of(training, "annotation")[0]
    batches = [drawn(training, [row], epoch) for epoch in range(1, 30)]
    assert all(batch.labels.item() == 1 for batch in batches)
    middles = np.array([np.argwhere(batch.masks[0, 0].numpy()).mean(0) for batch in batches])
    assert (middles.std(0) > 1).all()


def test_places_of_the_body_are_others_in_each_epoch(training):
    rows = rows_of(training, "body")[:4]
    crops = torch.stack([drawn(training, rows, epoch).chunks_hu for epoch in (1, 2)])
    assert not torch.equal(crops[0], crops[1])


def test_places_of_the_body_are_drawn_where_there_is_tissue():
    hounsfield = np.full((32, 64, 64), -1000, dtype=np.int16)
    hounsfield[..., :12] = 40
    shape = np.array([16, 32, 32])
    starts = [drawn_start(np.random.default_rng(seed), hounsfield, shape) for seed in range(40)]
    middles = np.array(starts) + shape // 2
    assert (middles >= 0).all()
    assert (middles < hounsfield.shape).all()
    # Of places anywhere, half would show none.
    assert np.mean([start[2] < 12 for start in starts]) > 0.9
    # Without tissue, as in a damaged CT, the draw ends.
    drawn_start(np.random.default_rng(0), np.full((32, 64, 64), -1000, dtype=np.int16), shape)


def test_draws_depend_on_seed_epoch_place_and_repeat_only(training, examples):
    _, source = examples
    rows = [0, 5, 9]
    same = drawn(training, rows[::-1], 2).chunks_hu.flip(0)
    assert torch.equal(drawn(training, rows, 2).chunks_hu, same)
    others = [drawn(training, rows, 3).chunks_hu, drawn(training, rows, 2, [1, 1, 1]).chunks_hu]
    reseeded = NoduleMasksDataset(training.index, type(source)(**{**vars(source), "seed": 1}))
    others.append(drawn(reseeded, rows, 2).chunks_hu)
    assert not any(torch.equal(same, other) for other in others)
    # A filler keeps a process in step; it is not counted.
    assert drawn(training, rows, 2, [-1, -1, -1]).repeat.tolist() == [-1, -1, -1]


def test_a_slice_network_s_nodule_lies_in_the_middle_slice(examples):
    places, source = examples
    sliced = type(source)(**{**vars(source), "context_slices": 3})
    dataset = NoduleMasksDataset(split_places(places, SPLIT)[0], sliced)
    rows = rows_of(dataset, "annotation")
    batches = [drawn(dataset, rows, epoch) for epoch in range(1, 12)]
    assert all((batch.labels == 1).float().mean() >= 0.5 for batch in batches)
    for batch in batches:
        in_middle = batch.masks[:, 0, SHAPE_IRC[0] // 2].flatten(1).any(1)
        assert torch.equal(in_middle.long(), batch.labels)


def module_of(examples, **options) -> DataModule:
    places, source = examples
    training, validation = split_places(places, SPLIT)
    parts = (NoduleMasksDataset(training, source), NoduleMasksDataset(validation, source))
    return DataModule(*parts, batch_size=5, ratio=PlaceRatio(), seed=CONFIG.seed, **options)


def batches_of(module: DataModule, epoch: int):
    return list(module.get_training_dataloader(epoch=epoch))


def test_an_epoch_has_the_ratio_of_nodules_look_alikes_and_body(examples):
    groups = torch.cat([batch.groups for batch in batches_of(module_of(examples), 1)]).numpy()
    counts = np.bincount(groups)
    assert len(groups) == 2 * (2 + 1 + 16)
    assert abs(counts[2] - len(groups) / 2) <= 2
    assert abs(counts[1] - len(groups) / 4) <= 2


def test_workers_and_processes_load_the_same_crops(examples):
    expected = batches_of(module_of(examples), 2)
    by_workers = batches_of(module_of(examples, num_workers=2), 2)
    two = [batches_of(module_of(examples, rank=rank, world_size=2), 2) for rank in (0, 1)]
    for one, other, *parts in zip(expected, by_workers, *two, strict=True):
        for name in ("chunks_hu", "masks", "candidate_id"):
            assert torch.equal(getattr(one, name), getattr(other, name))
            assert torch.equal(getattr(one, name), torch.cat([getattr(part, name) for part in parts]))


def test_validation_is_the_same_in_each_epoch_and_knows_its_share_of_a_scan(examples):
    module = module_of(examples)
    first, second = (list(module.get_validation_dataloader()) for _ in range(2))
    assert all(torch.equal(one.chunks_hu, other.chunks_hu) for one, other in zip(first, second, strict=True))
    share = torch.cat([batch.scan_share for batch in first])
    assert share.sum() == 2 * 3 * 3
    assert share[torch.cat([batch.groups for batch in first]) == 2].eq(0).all()


def test_the_fingerprint_changes_with_place_diameter_and_ct(training, examples):
    _, source = examples
    index = training.index
    changed = [
        index.assign(x_mm=index["x_mm"] + 1e-6),
        index.assign(diameter_mm=index["diameter_mm"] * 1.001),
        index.assign(fingerprint="another"),
        index.iloc[1:],
    ]
    digests = {NoduleMasksDataset(rows, source).fingerprint for rows in [index, *changed]}
    assert len(digests) == 5
    assert NoduleMasksDataset(index.sample(frac=1, random_state=0), source).fingerprint == training.fingerprint


def test_a_worker_maps_the_files_itself(training):
    content = pickle.dumps(training)
    assert len(content) < 100_000
    assert torch.equal(pickle.loads(content)[3].chunks_hu, training[3].chunks_hu)


def test_crops_with_too_few_slices_for_a_slice_network_are_refused(examples):
    _, source = examples
    with pytest.raises(ValueError, match=r"must hold the 7 slices that it sees, got .6, 64, 64.*to 7 slices"):
        CropSource(volumes=source.volumes, shape_irc=(6, 64, 64), context_slices=3)


def test_an_empty_part_is_refused(examples):
    places, source = examples
    with pytest.raises(ValueError, match="A data set must hold at least one place, got none"):
        NoduleMasksDataset(places.iloc[:0], source)


@pytest.mark.real
def test_annotated_balls_lie_on_the_nodules_of_real_scans(lidc_root, tmp_path):
    catalogue = catalogue_series(lidc_root, patient_key=b"key")
    candidates = build_candidates(lidc_root, catalogue).candidates
    volumes = CtVolumes.of_catalogue(catalogue, data_root=lidc_root, cache_dir=tmp_path / "cache")
    folds = assign_folds(catalogue, data_root=lidc_root)
    places = find_places(candidates, folds, volumes, tile_shape_irc=(32, 64, 64))
    nodules = places[places["source"] == "annotation"]
    assert len(nodules) == 4
    dataset = NoduleMasksDataset(nodules, CropSource(volumes=volumes, shape_irc=(32, 64, 64)))
    batch = dataset.__getitems__([0, 1, 2, 3])
    for place in range(4):
        crop, mask = batch.chunks_hu[place, 0], batch.masks[place, 0] > 0
        # Balls of irregular nodules hold some lung as well.
        inside, outside = ((part > -400).float().mean() for part in (crop[mask], crop[~mask]))
        assert inside > 0.5
        assert inside > outside + 0.1
    assert len(list((tmp_path / "cache/volumes").iterdir())) == 2
