"""Training of segmentation networks on crops of small CTs."""

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from luna_pipeline.core.datasets.augmentation import AugmentationConfig, Noise, Rotate
from luna_pipeline.core.datasets.augmenting import Augmenter
from luna_pipeline.core.datasets.mask_places import split_places
from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.events.messages import LogBatch, LogMetrics, LogPicture, LogResult, Mode
from luna_pipeline.core.models.base import TensorSpec
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.training.building import build_data_module, build_model, network_of
from luna_pipeline.core.training.checkpoints import CheckpointStore, load_checkpoint
from luna_pipeline.core.training.config import LossConfig, NoduleRatio, OptimizerConfig, SchedulerConfig
from luna_pipeline.core.training.trainer import Trainer
from luna_pipeline_tests.core.mask_examples import CONFIG, SHAPE_IRC, data_of
from luna_pipeline_tests.core.recorder import Recorder

BOOK = CONFIG.with_changes(
    network=NetworkConfig(name="book_unet", n_blocks=2, conv_channels=2, dropout_rate=0.0, chunk_shape_irc=(7, 16, 16))
)
CONFIGS = {"unet3d": CONFIG, "book_unet": BOOK}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    torch.set_num_threads(1)
    return {
        name: data_of(tmp_path_factory.mktemp(name), config, context_slices=slices)
        for (name, config), slices in zip(CONFIGS.items(), (0, 3), strict=True)
    }


class Run:
    """A run on the examples: folds 2 train, 1 validates, 0 tests."""

    def __init__(self, examples, root, config=CONFIG, *, validation_fold=1, num_workers=0):
        places, source = examples[config.network.name]
        training, validation = split_places(places, TrainingSplit(test_fold=0, validation_fold=validation_fold))
        self.recorder, self.store, self.config = Recorder(), CheckpointStore(root), config
        self.data = build_data_module(
            config,
            training_index=training,
            validation_index=validation,
            store=replace(source, seed=config.seed),
            num_workers=num_workers,
        )
        self.model = build_model(config, handler=self.recorder, num_batches=self.data.num_training_batches)

    def fit(self, **arguments):
        trainer = Trainer(self.config, handler=self.recorder, store=self.store)
        return trainer.fit(self.model, self.data, version="0.0.1", **arguments)

    def last(self):
        return load_checkpoint(self.store.path(self.config.name, "0.0.1", "last"))


@pytest.fixture(scope="module", params=list(CONFIGS))
def trained(request, examples, tmp_path_factory):
    run = Run(examples, tmp_path_factory.mktemp("trained"), CONFIGS[request.param])
    return run, run.fit()


def assert_equal_weights(one, other):
    for name, value in other.model_state.items():
        assert torch.equal(one.model_state[name], value), name
    assert one.best_score == other.best_score


def test_the_chosen_epoch_is_that_of_the_highest_crop_dice(trained):
    run, checkpoint = trained
    validated = [message for message in run.recorder.of(LogMetrics) if message.mode is Mode.VALIDATION]
    scores = [message.values["crop_dice"] for message in validated]
    assert checkpoint.epoch == 1 + int(np.argmax(scores))
    assert checkpoint.best_score == max(scores)
    assert all(
        {"loss", "dice", "crop_dice", "lesion_recall", "false_candidates_per_scan"} == set(m.values) for m in validated
    )
    assert all(np.isfinite(list(message.values.values())).all() for message in run.recorder.of(LogMetrics))
    assert checkpoint.threshold == 0.5
    assert not run.recorder.of(LogResult)


def test_a_checkpoint_knows_its_series_and_gives_its_network(trained):
    run, checkpoint = trained
    assert (checkpoint.training_series, checkpoint.validation_series) == (["1.12", "1.13"], ["1.11"])
    assert "1.10" not in {*checkpoint.training_series, *checkpoint.validation_series}
    read = load_checkpoint(run.store.path(run.config.name, "0.0.1"))
    network = network_of(read)
    assert network.is_segmenter
    shape = (2, 7, 16, 16) if run.config is BOOK else (2, 1, *SHAPE_IRC)
    assert network(torch.zeros(shape)).shape == (2, 1, *shape[2:])


def test_each_validation_gives_a_picture_of_its_nodules(trained):
    run, _ = trained
    pictures = run.recorder.of(LogPicture)
    assert [(message.epoch, message.mode, message.name) for message in pictures] == [
        (epoch, Mode.VALIDATION, "slices") for epoch in (1, 2, 3)
    ]
    # Two nodules side by side, three pixels a voxel.
    assert pictures[0].pixels.shape == (48, 2 * 48 + 4, 3)


def test_the_same_run_gives_the_same_weights_also_with_workers(trained, examples, tmp_path):
    run, checkpoint = trained
    again = Run(examples, tmp_path, run.config, num_workers=1).fit()
    assert_equal_weights(again, checkpoint)


def test_another_seed_gives_other_weights(trained, examples, tmp_path):
    run, checkpoint = trained
    other = Run(examples, tmp_path, run.config.with_changes(seed=1, num_epochs=1)).fit()
    name = next(iter(checkpoint.model_state))
    assert not torch.equal(other.model_state[name], checkpoint.model_state[name])


def test_a_run_that_was_interrupted_in_mid_epoch_is_resumed_to_the_bit(trained, examples, tmp_path):
    unbroken, checkpoint = trained
    run = Run(examples, tmp_path, unbroken.config)
    handle = run.recorder.handle_message

    def handle_and_interrupt(message):
        handle(message)
        if isinstance(message, LogBatch) and (message.epoch, message.batch_index) == (2, 3):
            signal.raise_signal(signal.SIGINT)

    run.recorder.handle_message = handle_and_interrupt
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    last = run.last()
    assert (last.epoch, last.progress.num_batches) == (1, 4)
    resumed = Run(examples, tmp_path, unbroken.config)
    got = resumed.fit(resume_from=last)
    assert_equal_weights(got, checkpoint)
    # The metrics of the resumed epoch are those of all its crops.
    wanted, found = (
        [m.values for m in each.recorder.of(LogMetrics) if (m.epoch, m.mode) == (2, Mode.TRAINING)]
        for each in (unbroken, resumed)
    )
    assert found == wanted


def test_eight_crops_are_learned_by_heart(examples, tmp_path):
    config = CONFIG.with_changes(
        {"network.conv_channels": 8, "network.dropout_rate": 0.0, "batch_size": 8},
        optimizer=OptimizerConfig(learning_rate=1e-2),
        scheduler=SchedulerConfig(name="constant"),
    )
    run = Run(examples, tmp_path, config)
    rows = (
        np.flatnonzero(run.data.training.groups == 2).tolist() + np.flatnonzero(run.data.training.groups == 0).tolist()
    )
    batch = run.data.training.__getitems__(rows[:8])
    run.model.module.train()
    losses = []
    for _ in range(50):
        loss, result = run.model.compute_batch_loss(batch)
        run.model._stepper.backward(loss)
        run.model._stepper.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.25 * losses[0]
    found = result.on_host(torch.cat(result.on_device).double())
    assert found.metrics()["dice"] > 0.85


def test_crops_and_masks_are_moved_alike_and_masks_get_no_noise():
    config = AugmentationConfig(rotate=Rotate(probability=1.0), noise=Noise(probability=1.0))
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(4, 1, 8, 16, 16, generator=generator) > 0.8).float()
    ids, repeat = torch.arange(4), torch.zeros(4, dtype=torch.int64)
    augmenter = Augmenter(config, seed=3)
    chunks, moved = augmenter.with_masks(1000 * masks, masks, ids, repeat, epoch=2)
    assert torch.equal(chunks, augmenter(1000 * masks, ids, repeat, epoch=2))
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    # Noise of 25 HU seldom crosses the middle between 0 and 1000.
    assert ((chunks >= 500) == (moved == 1)).float().mean() > 0.99
    assert not torch.equal(moved, masks)
    same = Augmenter(AugmentationConfig(flip=replace(config.flip, probability=0.0)), seed=3)
    assert same.with_masks(chunks, masks, ids, repeat, epoch=2)[1] is masks


def test_a_validation_fold_without_nodules_has_a_finite_score_and_no_recall(examples, tmp_path):
    places, source = examples["unet3d"]
    is_nodule = (places["fold"] == 1) & (places["source"] == "annotation")
    few = {"unet3d": (places[~is_nodule], source)}
    run = Run(few, tmp_path, CONFIG.with_changes(num_epochs=1))
    checkpoint = run.fit()
    (validated,) = [message for message in run.recorder.of(LogMetrics) if message.mode is Mode.VALIDATION]
    assert np.isfinite(checkpoint.best_score)
    assert "lesion_recall" not in validated.values
    assert not run.recorder.of(LogPicture)


def test_without_validation_the_last_epoch_is_kept_and_says_so(examples, tmp_path):
    checkpoint = Run(examples, tmp_path, CONFIG.with_changes(num_epochs=2), validation_fold=None).fit()
    assert checkpoint.epoch == 2
    assert "Trained without validation" in checkpoint.notes


def test_signatures(examples, tmp_path):
    volume = Run(examples, tmp_path).model.get_signature()
    assert volume.inputs == (TensorSpec("volumes_hu", "float32", (-1, 1, *SHAPE_IRC)),)
    assert volume.outputs == (TensorSpec("probability", "float32", (-1, 1, *SHAPE_IRC)),)
    slices = Run(examples, tmp_path, BOOK).model.get_signature()
    assert slices.inputs == (TensorSpec("slices_hu", "float32", (-1, 7, 16, 16)),)
    assert slices.outputs == (TensorSpec("probability", "float32", (-1, 1, 16, 16)),)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"network": NetworkConfig(n_blocks=2, chunk_shape_irc=SHAPE_IRC)}, "must have a network .*, got 'luna'"),
        ({"loss": LossConfig()}, "must have a loss that can segment, got 'cross_entropy'"),
        ({"model": "nodule_classification"}, "must have a model that can segment, got 'nodule_classification'"),
        ({"dataset": "cutouts"}, "data set 'cutouts' must have a network that can classify, got 'unet3d'"),
    ],
)
def test_parts_of_segmentation_and_classification_are_not_mixed(changes, line):
    with pytest.raises(ValueError, match=line):
        build_model(CONFIG.with_changes(changes), handler=Recorder(), num_batches=1)


def test_the_ratio_must_be_of_places(examples, tmp_path):
    with pytest.raises(ValueError, match="groups background, look_alike, nodule, got nodule, non_nodule"):
        Run(examples, tmp_path, CONFIG.with_changes(ratio=NoduleRatio()))
