import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from luna_pipeline.core.datasets.augmentation import Flip
from luna_pipeline.core.datasets.augmenting import Augmenter
from luna_pipeline.core.datasets.cutouts import CutoutsDataset
from luna_pipeline.core.datasets.data_module import DataModule
from luna_pipeline.core.events.messages import LogBatch, LogMetrics, LogResult, Mode
from luna_pipeline.core.metrics.binary import binary_metrics
from luna_pipeline.core.models.base import ClassificationTask, Signature, SplitResult, TensorSpec
from luna_pipeline.core.models.batch_iterator import BatchIteratorProvider
from luna_pipeline.core.models.classification import NoduleClassificationModel
from luna_pipeline.core.models.optimizer_step import Stepper
from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.losses import build_loss
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.core.training.building import build_data_module, build_model
from luna_pipeline.core.training.config import (
    AugmentationConfig,
    NoduleRatio,
    OptimizerConfig,
    SchedulerConfig,
    TrainingConfig,
)
from luna_pipeline.core.training.schedulers import build_schedule
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.recorder import Recorder

CONFIG = TrainingConfig(
    network=NetworkConfig(n_blocks=2, conv_channels=2, dropout_rate=0.2, chunk_shape_irc=(8, 8, 8)),
    ratio=NoduleRatio(nodule=1, non_nodule=2),
    batch_size=5,
)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cutouts"))


def make_data_module(examples) -> DataModule:
    """18 training samples, 6 of validation, batches of 5: neither is a whole number of batches."""
    index, store = examples
    is_validation = index["fold"] == 1
    return build_data_module(
        CONFIG, training_index=index[~is_validation], validation_index=index[is_validation], store=store
    )


UNCHANGED = AugmentationConfig(flip=Flip(probability=0.0))


def make_model(
    handler, *, wrap=lambda network: network, learning_rate=1e-3, augmentation=UNCHANGED, accumulated_batches=1
) -> NoduleClassificationModel:
    torch.manual_seed(0)
    network = wrap(build_network(CONFIG.network))
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    schedule = build_schedule(optimizer, SchedulerConfig(gamma=0.5), num_epochs=2, num_steps_per_epoch=4)
    return NoduleClassificationModel(
        network,
        task=ClassificationTask((8, 8, 8)),
        loss=build_loss(CONFIG.loss),
        stepper=Stepper(network, optimizer, schedule, accumulated_batches=accumulated_batches),
        augment=Augmenter(augmentation, seed=0),
        batch_iterator=BatchIteratorProvider(handler),
        handler=handler,
    )


def fit_epochs(model, data_module, epochs=(1,)):
    for epoch in epochs:
        result = model.fit_epoch(
            epoch,
            training_loader=data_module.get_training_dataloader(epoch=epoch),
            validation_loader=data_module.get_validation_dataloader(),
        )
    return result


@pytest.mark.seed_defect(36, 42)
def test_epoch_values_hold_every_sample_of_the_epoch(examples):
    recorder, data_module = Recorder(), make_data_module(examples)
    result = fit_epochs(make_model(recorder), data_module)
    assert [len(message.scores) for message in recorder.of(LogResult)] == [18, 6]
    assert len(result.training.candidate_id) == 18
    assert result.validation.candidate_id.tolist() == data_module.validation.candidate_id.tolist()
    assert result.validation.labels.tolist() == data_module.validation.labels.tolist()


@pytest.mark.seed_defect(36)
def test_logged_metrics_are_those_of_all_samples(examples):
    recorder = Recorder()
    fit_epochs(make_model(recorder), make_data_module(examples))
    for metrics, result in zip(recorder.of(LogMetrics), recorder.of(LogResult), strict=True):
        values = dict(metrics.values)
        assert math.isfinite(values.pop("loss"))
        assert values == pytest.approx(binary_metrics(result.labels, result.scores), nan_ok=True)


def test_the_loss_of_a_batch_is_its_share_of_the_mean_over_the_training_step(examples):
    batch = make_data_module(examples).validation.__getitems__(range(4))
    loss, result = make_model(Recorder()).compute_batch_loss(batch._replace(num_in_step=12))
    assert loss.item() == pytest.approx(result.losses.sum().item() / 12)


def test_epoch_loss_is_the_mean_over_samples_and_not_over_batches(examples):
    model, data_module = make_model(Recorder()), make_data_module(examples)
    result = model.do_validation(1, data_module.get_validation_dataloader())
    network = model.get_module().eval()
    batch = data_module.validation.__getitems__(range(6))
    with torch.no_grad():
        expected = nn.functional.cross_entropy(network(batch.chunks_hu), batch.labels).item()
    assert result.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.seed_defect(37, 43)
def test_the_step_is_always_the_number_of_training_samples_seen(examples):
    recorder = Recorder()
    fit_epochs(make_model(recorder), make_data_module(examples), epochs=(1, 2))
    steps = [(message.mode, message.epoch, message.num_samples_seen) for message in recorder.of(LogMetrics)]
    training, validation = Mode.TRAINING, Mode.VALIDATION
    assert steps == [(training, 1, 18), (validation, 1, 18), (training, 2, 36), (validation, 2, 36)]
    batches = [message.num_samples_seen for message in recorder.of(LogBatch) if message.mode == training]
    assert batches == [5, 10, 15, 18, 23, 28, 33, 36]


@pytest.mark.seed_defect(40)
def test_what_is_kept_has_no_graph_and_no_tensor(examples):
    result = fit_epochs(make_model(Recorder()), make_data_module(examples))
    kept = [getattr(result.training, name) for name in ("candidate_id", "labels", "scores", "losses")]
    assert all(type(values) is np.ndarray for values in kept)
    assert [str(values.dtype) for values in kept] == ["int64", "int64", "float64", "float64"]


@pytest.mark.seed_defect(39)
def test_without_validation_there_is_no_score_of_one(examples):
    recorder, data_module = Recorder(), make_data_module(examples)
    result = make_model(recorder).fit_epoch(
        1, training_loader=data_module.get_training_dataloader(epoch=1), validation_loader=None
    )
    assert result.validation is None
    assert {message.mode for message in recorder.of(LogMetrics)} == {Mode.TRAINING}


@pytest.mark.seed_defect(45)
def test_validation_and_signature_leave_no_trace_in_the_network(examples):
    model, loader = make_model(Recorder()), make_data_module(examples).get_validation_dataloader()
    before = model.get_state().model_state
    model.module.train()
    first, second = (model.do_validation(1, loader).scores.tolist() for _ in range(2))
    model.get_signature()
    assert first == second
    assert all(torch.equal(value, before[name]) for name, value in model.get_state().model_state.items())
    assert model.module.training
    assert torch.is_grad_enabled()


@pytest.mark.seed_defect(45)
def test_validation_is_without_dropout_and_with_running_statistics(examples):
    model, data_module = make_model(Recorder()), make_data_module(examples)
    with torch.no_grad():
        expected = model.get_module().eval()(data_module.validation.__getitems__(range(6)).chunks_hu)
    model.module.train()
    scores = model.do_validation(1, data_module.get_validation_dataloader()).scores
    assert scores == pytest.approx(expected.softmax(dim=1)[:, 1].numpy(), abs=1e-6)


def test_signature_has_free_numbers_of_cutouts_and_plain_names():
    assert make_model(Recorder()).get_signature() == Signature(
        inputs=(TensorSpec("chunks_hu", "float32", (-1, 1, 8, 8, 8)),),
        outputs=(TensorSpec("probability", "float32", (-1,)),),
    )


@pytest.mark.seed_defect(48)
def test_the_learning_rate_falls_once_an_epoch(examples):
    model = make_model(Recorder(), learning_rate=0.01)
    fit_epochs(model, make_data_module(examples), epochs=(1, 2))
    assert model.get_state().optimizer_state["param_groups"][0]["lr"] == 0.0025


@pytest.mark.seed_defect(54)
def test_state_of_a_wrapped_network_bears_the_names_of_the_network(examples):
    model = make_model(Recorder(), wrap=nn.DataParallel)
    assert model.get_state().model_state.keys() == build_network(CONFIG.network).state_dict().keys()


def test_state_is_a_copy_that_later_steps_do_not_reach_and_brings_everything_back(examples):
    model, data_module = make_model(Recorder()), make_data_module(examples)
    fit_epochs(model, data_module)
    state = model.get_state()
    step = state.optimizer_state["state"][0]["step"].clone()
    weight = state.model_state["luna_head.head_linear.weight"].clone()
    fit_epochs(model, data_module, epochs=(2,))
    assert torch.equal(state.optimizer_state["state"][0]["step"], step)
    assert torch.equal(state.model_state["luna_head.head_linear.weight"], weight)
    model.load_state(state)
    assert torch.equal(model.get_module().luna_head.head_linear.weight, weight)
    assert model.num_samples_seen == 18


def test_it_says_what_it_is_made_of():
    assert repr(make_model(Recorder())) == "NoduleClassificationModel(LunaNetwork, CrossEntropyLoss, AdamW)"


def test_the_loss_weighs_a_nodule_as_class_1(examples):
    model = make_model(Recorder())
    head = model.get_module().luna_head.head_linear
    nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.0, math.log(3)]))
    batch = CutoutsDataset(*examples).__getitems__([0, 1])
    _, part = model.compute_batch_loss(batch)
    assert part.labels.tolist() == [1, 0]
    assert part.scores == pytest.approx([0.75, 0.75])
    assert part.losses == pytest.approx([-math.log(0.75), -math.log(0.25)])


def test_training_is_the_plain_loop(examples):
    model, data_module = make_model(Recorder()), make_data_module(examples)
    expected = build_network(CONFIG.network)
    expected.load_state_dict(model.get_state().model_state)
    optimizer = torch.optim.AdamW(expected.parameters(), lr=1e-3)
    torch.manual_seed(1)
    for batch in data_module.get_training_dataloader(epoch=1):
        loss = nn.functional.cross_entropy(expected(batch.chunks_hu), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.module.eval()  # whatever came before, training is in training mode
    torch.manual_seed(1)
    model.do_training(1, data_module.get_training_dataloader(epoch=1))
    got = model.get_state().model_state
    assert all(torch.allclose(got[name], value, rtol=1e-4, atol=1e-6) for name, value in expected.state_dict().items())


def test_eight_cutouts_are_learned_by_heart(examples):
    index, store = examples
    config = replace(
        CONFIG,
        batch_size=8,
        augmentation=UNCHANGED,
        network=replace(CONFIG.network, conv_channels=4, dropout_rate=0.0),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        scheduler=SchedulerConfig(gamma=1.0),
    )
    data_module = build_data_module(config, training_index=index.iloc[:8], validation_index=None, store=store)
    model = build_model(config, handler=Recorder(), num_batches=1)
    losses = [model.do_training(epoch, data_module.get_training_dataloader(epoch=epoch)).loss for epoch in range(1, 51)]
    assert losses[0] == pytest.approx(math.log(2), abs=0.05)
    assert losses[-1] < 0.01


def test_training_cutouts_are_changed_at_random_and_others_are_not(examples):
    data_module, seen = make_data_module(examples), []

    class Watched(NoduleClassificationModel):
        def compute_batch_loss(self, batch):
            seen.append((self.module.training, batch))
            return super().compute_batch_loss(batch)

    model = make_model(Recorder(), augmentation=AugmentationConfig.all_five())
    model.__class__ = Watched
    fit_epochs(model, data_module)
    originals = {True: data_module.training, False: data_module.validation}
    for is_training, batch in seen:
        dataset = originals[is_training]
        rows = [dataset.candidate_id.tolist().index(number) for number in batch.candidate_id.tolist()]
        is_same = torch.equal(batch.chunks_hu, dataset.__getitems__(rows).chunks_hu)
        assert is_same is not is_training


def test_nodules_of_both_labels_are_told_apart_among_themselves():
    labels, groups = np.array([1, 0, 0, 0, 1]), np.array([2, 1, 0, 0, 2])
    result = SplitResult(np.arange(5), labels, np.array([0.9, 0.8, 0.1, 0.2, 0.7]), np.ones(5), groups)
    # Of two malignant nodules one outscores the benign one.
    assert result.metrics()["auc_among_nodules"] == 0.5
    assert result.metrics()["auc"] == pytest.approx(5 / 6)


def test_where_nodules_have_one_label_there_is_no_auc_among_them():
    result = SplitResult(np.arange(2), np.array([1, 0]), np.array([0.9, 0.8]), np.ones(2), np.array([1, 0]))
    assert "auc_among_nodules" not in result.metrics()


def test_after_a_validation_the_network_itself_judges(examples):
    model, data_module = make_model(Recorder()), make_data_module(examples)
    model.do_validation(1, data_module.get_validation_dataloader())
    with torch.no_grad():
        for parameter in model.get_module().parameters():
            parameter.zero_()
    model.module.eval()
    _, part = model.compute_batch_loss(data_module.validation.__getitems__(range(4)))
    assert part.losses == pytest.approx([math.log(2)] * 4)


def test_values_of_a_step_are_told_with_every_batch(examples):
    recorder, data_module = Recorder(), make_data_module(examples)
    model = make_model(recorder, accumulated_batches=2)
    model.do_training(1, data_module.get_training_dataloader(epoch=1))
    told = [set(message.values) for message in recorder.of(LogBatch)]
    assert told == [set(), *[{"gradient_norm", "learning_rate"}] * 3]
