import contextlib
import itertools
import math
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from luna_pipeline.core.datasets.splits import TrainingSplit, split_index
from luna_pipeline.core.events.messages import (
    LogBatch,
    LogBatchEnd,
    LogBatchStart,
    LogCheckpoint,
    LogEpoch,
    LogMetrics,
    LogModel,
    LogParams,
    LogResult,
    LogStart,
    Mode,
)
from luna_pipeline.core.metrics.decision import UNDECIDED, Decision
from luna_pipeline.core.models.base import EpochResult, SplitResult
from luna_pipeline.core.models.finite import NonFiniteError
from luna_pipeline.core.models.scoring import predict
from luna_pipeline.core.storage.files import listing
from luna_pipeline.core.storage.s3 import remote_path
from luna_pipeline.core.training.building import build_data_module, build_model, network_of
from luna_pipeline.core.training.checkpoint_manager import validation_score
from luna_pipeline.core.training.checkpoints import CheckpointStore, load_checkpoint
from luna_pipeline.core.training.config import (
    EarlyStoppingConfig,
    NetworkConfig,
    NoduleRatio,
    OptimizerConfig,
    SchedulerConfig,
    TrainingConfig,
)
from luna_pipeline.core.training.interrupts import PostponedInterrupts
from luna_pipeline.core.training.trainer import Trainer
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.recorder import Recorder

CONFIG = TrainingConfig(
    name="classification",
    network=NetworkConfig(n_blocks=2, conv_channels=2, dropout_rate=0.2, chunk_shape_irc=(8, 8, 8)),
    optimizer=OptimizerConfig(learning_rate=1e-2),
    ratio=NoduleRatio(nodule=1, non_nodule=1),
    num_epochs=4,
    batch_size=5,
)
UNBROKEN_EPOCHS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cutouts"))


class Run:
    """A run on the examples: folds 2 train, 1 validates, 0 tests."""

    def __init__(self, examples, root, config=CONFIG, *, validation_fold=1, num_workers=0, **recorder):
        index, store = examples
        training, validation, _ = split_index(index, TrainingSplit(test_fold=0, validation_fold=validation_fold))
        self.recorder = Recorder(**recorder)
        self.store = CheckpointStore(root)
        self.config = config
        self.data_module = build_data_module(
            config, training_index=training, validation_index=validation, store=store, num_workers=num_workers
        )
        self.model = build_model(config, handler=self.recorder, num_batches=self.data_module.num_training_batches)

    def fit(self, *, version="0.0.1", seconds_between_checkpoints=1e9, **arguments):
        trainer = Trainer(
            self.config,
            handler=self.recorder,
            store=self.store,
            seconds_between_checkpoints=seconds_between_checkpoints,
        )
        return trainer.fit(self.model, self.data_module, version=version, **arguments)

    def read(self, kind, version="0.0.1"):
        return load_checkpoint(self.store.path("classification", version, kind))

    def unfinished(self):
        return self.store.unfinished("classification", self.config.digest, self.data_module.fingerprint)


def weights(checkpoint):
    return {name: value.numpy() for name, value in checkpoint.model_state.items()}


def assert_equal_weights(one, other):
    assert one.model_state.keys() == other.model_state.keys()
    for name, value in weights(one).items():
        np.testing.assert_array_equal(value, weights(other)[name], err_msg=name)


def interrupt_at(run, epoch, error=KeyboardInterrupt, **arguments):
    """Fail in the middle of a training step, as a kill would."""
    handle = run.recorder.handle_message

    def handle_and_fail(message):
        handle(message)
        if isinstance(message, LogBatch) and (message.epoch, message.batch_index) == (epoch, 1):
            raise error

    run.recorder.handle_message = handle_and_fail
    with pytest.raises(error):
        run.fit(**arguments)


@pytest.mark.parametrize(("seconds", "saved"), [(59.0, []), (59.99, []), (60.0, [2]), (61.0, [2])])
def test_a_checkpoint_is_due_once_the_time_between_checkpoints_has_passed(tmp_path, monkeypatch, seconds, saved):
    now, done = [1000.0], []
    monkeypatch.setattr("luna_pipeline.core.training.trainer.time", SimpleNamespace(monotonic=lambda: now[0]))
    store = CheckpointStore(tmp_path)
    trainer = Trainer(CONFIG, handler=Recorder(), store=store, seconds_between_checkpoints=60.0)
    save = SimpleNamespace(save_progress=lambda last, progress, model: done.append(progress.num_batches))
    monkeypatch.setattr(trainer, "_manager", save)
    after_step = trainer._after_step(None, 9, object(), PostponedInterrupts())
    after_step(1, lambda: None)
    now[0] += seconds
    after_step(2, lambda: None)
    assert done == saved
    # The time counts from the last checkpoint.
    now[0] += 59.0 if saved else 0.0
    after_step(3, lambda: None)
    assert done == saved


def test_messages_tell_the_run_from_its_beginning_to_its_model(examples, tmp_path):
    run = Run(examples, tmp_path, replace(CONFIG, num_epochs=2))
    run.fit()
    kinds = [type(message) for message in run.recorder.messages if not isinstance(message, LogBatch)]
    one_pass = [LogBatchStart, LogBatchEnd, LogMetrics, LogResult]
    assert kinds == [LogStart, LogParams, *[LogEpoch, *one_pass, *one_pass, LogCheckpoint] * 2, LogModel]
    (epoch, _) = run.recorder.of(LogEpoch)
    assert (epoch.epoch, epoch.num_epochs, epoch.batch_size) == (1, 2, 5)
    assert (epoch.num_training_samples, epoch.num_validation_samples) == (12, 6)
    _, kept = run.recorder.of(LogCheckpoint)
    assert (kept.epoch, kept.num_samples_seen) == (2, 24)
    last = load_checkpoint(Path(kept.path))
    assert (last.epoch, last.num_samples_seen) == (2, 24)


@pytest.mark.seed_defect(69)
def test_the_whole_configuration_is_logged(examples, tmp_path):
    run = Run(examples, tmp_path, replace(CONFIG, num_epochs=1))
    run.fit()
    (params,) = run.recorder.of(LogParams)
    assert params.params == run.config.flat()
    assert (params.params["num_epochs"], params.params["batch_size"]) == (1, 5)


@pytest.mark.seed_defect(38, 39)
@pytest.mark.parametrize(("cadence", "expected"), [(1, [1, 2, 3, 4]), (3, [1, 3, 4]), (9, [1, 4])])
def test_validation_follows_its_cadence(examples, tmp_path, cadence, expected):
    run = Run(examples, tmp_path, replace(CONFIG, validation_cadence=cadence))
    run.fit()
    logged = [message.epoch for message in run.recorder.of(LogMetrics) if message.mode == Mode.VALIDATION]
    assert logged == expected


@pytest.mark.seed_defect(46)
def test_the_epoch_with_the_highest_validation_auc_is_kept_and_not_the_last(examples, tmp_path):
    run = Run(examples, tmp_path)
    scripted = iter([0.6, 0.9, 0.9, 0.7])
    fit_epoch = run.model.fit_epoch

    def fit_with_scripted_auc(epoch, **loaders):
        result = fit_epoch(epoch, **loaders)
        return EpochResult(result.training, result_of_auc(next(scripted)))

    run.model.fit_epoch = fit_with_scripted_auc
    chosen = run.fit()
    assert (chosen.epoch, chosen.best_score) == (2, pytest.approx(0.9))
    assert (run.read("last").epoch, run.read("last").best_score) == (4, pytest.approx(0.9))
    assert_equal_weights(run.read("best"), chosen)
    assert chosen.num_samples_seen == 24
    assert chosen.notes == ""


def result_of_auc(auc) -> SplitResult:
    """A result with an AUC of whole tenths: ten nodules and one other; no nodule for nan."""
    num_above = 0 if math.isnan(auc) else round(10 * auc)
    labels = np.full(11, 0 if math.isnan(auc) else 1)
    labels[0] = 0
    scores = np.array([0.5, *[0.9] * num_above, *[0.1] * (10 - num_above)])
    return SplitResult(np.arange(11), labels, scores, np.zeros(11), labels)


@pytest.mark.seed_defect("n")
def test_an_auc_that_is_nan_never_wins_and_never_stays(examples, tmp_path):
    run = Run(examples, tmp_path)
    scripted = iter([math.nan, 0.6, math.nan, 0.5])
    fit_epoch = run.model.fit_epoch
    run.model.fit_epoch = lambda epoch, **loaders: EpochResult(
        fit_epoch(epoch, **loaders).training, result_of_auc(next(scripted))
    )
    assert run.fit().epoch == 2


@pytest.mark.seed_defect(49)
def test_the_decision_is_made_by_the_validation_of_the_chosen_epoch(examples, tmp_path):
    run = Run(examples, tmp_path)
    chosen = run.fit()
    results = [message for message in run.recorder.of(LogResult) if message.mode == Mode.VALIDATION]
    (result,) = [message for message in results if message.epoch == chosen.epoch]
    index = run.data_module.validation.index
    series = index["series_instance_uid"].to_numpy()
    assert chosen.decision == run.read("best").decision == Decision.of(result.labels, result.scores, series)
    assert chosen.decision.num_validation_candidates == 6


@pytest.mark.parametrize("validation", [None, math.nan])
def test_without_a_validation_of_both_classes_there_is_no_score_and_no_decision(validation):
    result = None if validation is None else result_of_auc(validation)
    score, decision = validation_score(EpochResult(result_of_auc(0.8), result))
    assert math.isnan(score)
    assert decision is UNDECIDED
    assert decision.threshold == 0.5


@pytest.mark.seed_defect(39)
def test_without_validation_the_last_epoch_is_kept_and_says_so(examples, tmp_path):
    run = Run(examples, tmp_path, validation_fold=None)
    chosen = run.fit()
    assert (chosen.epoch, chosen.threshold, chosen.validation_series) == (4, 0.5, [])
    assert math.isnan(chosen.best_score)
    assert chosen.notes.startswith("Trained without validation: ")
    assert run.read("best").notes == chosen.notes
    assert {message.mode for message in run.recorder.of(LogMetrics)} == {Mode.TRAINING}


def test_validation_of_one_class_keeps_the_last_epoch_and_says_so(examples, tmp_path):
    index, store = examples
    only_others = index[(index["fold"] != 1) | (index["class"] == 0)]
    chosen = Run((only_others, store), tmp_path).fit()
    assert chosen.epoch == 4
    assert chosen.notes.startswith("Validation held one class only: ")


@pytest.mark.seed_defect(45, 46)
def test_the_model_handed_over_is_the_chosen_one_ready_for_use(examples, tmp_path):
    run = Run(examples, tmp_path)
    chosen = run.fit(mlflow_run_id="run-1")
    (message,) = run.recorder.of(LogModel)
    assert (message.name, message.version) == ("classification", "0.0.1")
    assert message.checkpoint is chosen
    assert chosen.mlflow_run_id == "run-1"
    assert not message.module.training
    scores = predict(message.module, run.data_module.get_validation_dataloader())[1]
    (result,) = [r for r in run.recorder.of(LogResult) if (r.mode, r.epoch) == (Mode.VALIDATION, chosen.epoch)]
    np.testing.assert_array_equal(scores, result.scores)
    assert_equal_weights(chosen, run.read("best"))


def test_a_checkpoint_says_what_it_has_learned_from(examples, tmp_path):
    run = Run(examples, tmp_path, replace(CONFIG, num_epochs=1))
    chosen = run.fit()
    assert chosen.training_series == ["1.12", "1.13"]
    assert chosen.validation_series == ["1.11"]
    assert sorted(chosen.training_candidate_ids.tolist()) == [*range(2000, 2006), *range(3000, 3006)]
    assert chosen.data_fingerprint == run.data_module.fingerprint
    assert chosen.config == run.config


@pytest.mark.seed_defect(14)
def test_the_same_seed_gives_equal_weights_and_another_does_not(examples, tmp_path):
    chosen = [
        Run(examples, tmp_path / str(number), replace(CONFIG, seed=seed, num_epochs=2)).fit()
        for number, seed in enumerate((3, 3, 4))
    ]
    assert_equal_weights(chosen[0], chosen[1])
    name = "luna_head.head_linear.weight"
    assert not torch.equal(chosen[0].model_state[name], chosen[2].model_state[name])


@pytest.mark.seed_defect(14)
def test_random_numbers_of_training_begin_at_the_seed(examples, tmp_path):
    run, seeds = Run(examples, tmp_path, replace(CONFIG, seed=7, num_epochs=1)), []
    fit_epoch = run.model.fit_epoch
    run.model.fit_epoch = lambda epoch, **loaders: seeds.append(torch.initial_seed()) or fit_epoch(epoch, **loaders)
    run.fit()
    assert seeds == [7]


def test_workers_change_no_weight(examples, tmp_path):
    alone = Run(examples, tmp_path / "0", replace(CONFIG, num_epochs=2)).fit()
    helped = Run(examples, tmp_path / "2", replace(CONFIG, num_epochs=2), num_workers=2).fit()
    assert_equal_weights(alone, helped)


def test_training_leaves_the_random_numbers_of_its_caller_alone(examples, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Run(examples, tmp_path, replace(CONFIG, num_epochs=1)).fit()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.seed_defect(46)
@pytest.mark.parametrize("epoch", [2, 4])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_that_was_ended_in_mid_epoch_comes_to_what_it_would_have_come_to(examples, tmp_path, epoch, optimizer):
    config = replace(CONFIG, optimizer=OptimizerConfig(name=optimizer, learning_rate=1e-2))
    unbroken = Run(examples, tmp_path / "unbroken", config)
    expected = unbroken.fit()
    interrupt_at(Run(examples, tmp_path / "broken", config), epoch)
    resumed = Run(examples, tmp_path / "broken", config)
    checkpoint = resumed.unfinished()
    assert checkpoint.epoch == epoch - 1
    got = resumed.fit(resume_from=checkpoint)
    assert_equal_weights(got, expected)
    assert_equal_weights(resumed.read("last"), unbroken.read("last"))
    assert resumed.read("last").scheduler_state == unbroken.read("last").scheduler_state
    assert (got.epoch, got.best_score, got.threshold) == (expected.epoch, expected.best_score, expected.threshold)
    assert got.num_samples_seen == expected.num_samples_seen
    assert [message.epoch for message in resumed.recorder.of(LogEpoch)] == list(UNBROKEN_EPOCHS[epoch - 1 :])
    assert resumed.unfinished() is None


@pytest.mark.seed_defect(46)
@pytest.mark.parametrize("kept_batches", [1, 2, 3])
def test_a_run_that_was_killed_in_mid_epoch_goes_on_from_its_last_step(examples, tmp_path, kept_batches):
    config = replace(CONFIG, optimizer=OptimizerConfig(learning_rate=1e-2), scheduler=SchedulerConfig(name="cosine"))
    expected = Run(examples, tmp_path / "unbroken", config).fit()
    broken = Run(examples, tmp_path / "broken", config)
    fail_after(broken, epoch=2, num_batches=kept_batches)
    resumed = Run(examples, tmp_path / "broken", config)
    checkpoint = resumed.unfinished()
    assert (checkpoint.epoch, checkpoint.progress.num_batches) == (1, kept_batches)
    assert len(checkpoint.progress.result.losses) == min(5 * kept_batches, 12)
    got = resumed.fit(resume_from=checkpoint)
    assert_equal_weights(got, expected)
    assert (got.epoch, got.best_score, got.num_samples_seen) == (
        expected.epoch,
        expected.best_score,
        expected.num_samples_seen,
    )


def fail_after(run, *, epoch, num_batches):
    """Fail after a saved training step, as a kill would."""
    fit_epoch = run.model.fit_epoch

    def fit_and_fail(number, *, after_step, **arguments):
        def fail(num_done, samples):
            after_step(num_done, samples)
            if (number, num_done) == (epoch, num_batches):
                raise SystemError

        return fit_epoch(number, after_step=fail, **arguments)

    run.model.fit_epoch = fit_and_fail
    with pytest.raises(SystemError):
        run.fit(seconds_between_checkpoints=0.0)


def test_metrics_of_an_epoch_that_was_continued_are_those_of_all_its_samples(examples, tmp_path):
    unbroken = Run(examples, tmp_path / "unbroken")
    unbroken.fit()
    fail_after(Run(examples, tmp_path / "broken"), epoch=2, num_batches=2)
    resumed = Run(examples, tmp_path / "broken")
    resumed.fit(resume_from=resumed.unfinished())
    expected = [m.values for m in unbroken.recorder.of(LogMetrics) if m.epoch >= 2]
    assert [message.values for message in resumed.recorder.of(LogMetrics)] == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_epoch_leaves_a_checkpoint_of_that_step_and_goes_on_bit_equal(examples, tmp_path, number):
    expected = Run(examples, tmp_path / "unbroken").fit()
    broken = Run(examples, tmp_path / "broken")
    signal_at(broken, number, epoch=2, batch_index=1)
    with ctrl_c_for(signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        broken.fit()
    resumed = Run(examples, tmp_path / "broken")
    checkpoint = resumed.unfinished()
    assert (checkpoint.epoch, checkpoint.progress.num_batches) == (1, 2)
    assert_equal_weights(resumed.fit(resume_from=checkpoint), expected)


@contextlib.contextmanager
def ctrl_c_for(number):
    """Make a signal raise KeyboardInterrupt, as the command line does."""
    before = signal.signal(number, signal.default_int_handler)
    yield
    signal.signal(number, before)


def signal_at(run, number, *, epoch, batch_index, mode=Mode.TRAINING):
    handle = run.recorder.handle_message

    def handle_and_signal(message):
        handle(message)
        where = (mode, epoch, batch_index)
        if isinstance(message, LogBatch) and (message.mode, message.epoch, message.batch_index) == where:
            os.kill(os.getpid(), number)

    run.recorder.handle_message = handle_and_signal


def test_a_signal_in_a_validation_ends_it_at_once_and_the_epoch_is_validated_again(examples, tmp_path):
    expected = Run(examples, tmp_path / "unbroken").fit()
    broken = Run(examples, tmp_path / "broken")
    signal_at(broken, signal.SIGINT, epoch=2, batch_index=0, mode=Mode.VALIDATION)
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    validated = [m for m in broken.recorder.of(LogBatch) if (m.mode, m.epoch) == (Mode.VALIDATION, 2)]
    assert len(validated) == 1
    resumed = Run(examples, tmp_path / "broken")
    assert resumed.unfinished().progress.num_batches == 3
    assert_equal_weights(resumed.fit(resume_from=resumed.unfinished()), expected)
    assert not [m for m in resumed.recorder.of(LogBatch) if (m.mode, m.epoch) == (Mode.TRAINING, 2)]


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 5), (None, 6)])
def test_a_run_whose_score_does_not_rise_stops_early(examples, tmp_path, patience, epochs):
    config = replace(CONFIG, num_epochs=6, early_stopping=EarlyStoppingConfig(patience=patience))
    run, scripted = Run(examples, tmp_path, config), iter([0.5, 0.6, 0.6, 0.7, 0.7, 0.7])
    if patience == 2:
        scripted = iter([0.5, 0.6, 0.7, 0.6, 0.7, 0.9])
    fit_epoch = run.model.fit_epoch
    run.model.fit_epoch = lambda epoch, **arguments: EpochResult(
        fit_epoch(epoch, **arguments).training, result_of_auc(next(scripted))
    )
    run.fit()
    assert run.read("last").epoch == epochs


def test_batches_that_are_accumulated_give_the_step_of_one_large_batch(examples, tmp_path):
    network = replace(CONFIG.network, block="biased", dropout_rate=0.0)
    frozen = replace(CONFIG, network=network, frozen="batch_norm", num_epochs=1)
    large = Run(examples, tmp_path / "large", replace(frozen, batch_size=6)).fit()
    small = Run(examples, tmp_path / "small", replace(frozen, batch_size=3, accumulated_batches=2)).fit()
    for name, value in weights(large).items():
        np.testing.assert_allclose(weights(small)[name], value, rtol=2e-3, atol=1e-5, err_msg=name)


def test_a_run_in_s3_is_continued_from_there(examples, tmp_path, s3_home):
    home, runs = remote_path(s3_home), [Run(examples, tmp_path) for _ in range(2)]
    for run in runs:
        run.store = CheckpointStore(home, locks=tmp_path / "locks")
    interrupt_at(runs[0], 3)
    got = runs[1].fit(resume_from=runs[1].unfinished())
    assert_equal_weights(got, Run(examples, tmp_path / "unbroken").fit())
    assert sorted(listing(home)) == ["classification/0.0.1/best.pt", "classification/0.0.1/last.pt"]


def test_a_run_that_ended_before_its_model_was_kept_is_only_completed(examples, tmp_path):
    failing = Run(examples, tmp_path, raise_at=LogModel, error=ConnectionError("no tracker"))
    with pytest.raises(ConnectionError, match="no tracker"):
        failing.fit()
    resumed = Run(examples, tmp_path)
    chosen = resumed.fit(resume_from=resumed.unfinished(), mlflow_run_id="second")
    assert resumed.recorder.of(LogEpoch) == []
    assert chosen.mlflow_run_id == "second"
    assert_equal_weights(chosen, Run(examples, tmp_path / "unbroken").fit())


@pytest.mark.seed_defect(63)
def test_a_model_that_was_not_kept_makes_no_complete_run(examples, tmp_path):
    run = Run(examples, tmp_path, raise_at=LogModel, error=ConnectionError("no tracker"))
    with pytest.raises(ConnectionError):
        run.fit()
    assert not run.store.path("classification", "0.0.1").exists()
    assert run.read("last").epoch == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interrupt_passes_leaves_no_worker_and_the_last_checkpoint(examples, tmp_path, error):
    run = Run(examples, tmp_path, num_workers=2)
    interrupt_at(run, 2, error)
    assert multiprocessing.active_children() == []
    assert run.read("last").epoch == 1
    assert run.unfinished().epoch == 1


def test_a_complete_run_leaves_its_best_and_its_last_checkpoint(examples, tmp_path):
    run = Run(examples, tmp_path)
    run.fit()
    names = {path.name for path in run.store.path("classification", "0.0.1").parent.iterdir()}
    assert names == {"best.pt", "last.pt", ".lock"}


@pytest.mark.parametrize("change", ["configuration", "data", "version"])
def test_a_run_is_not_continued_with_anything_else(examples, tmp_path, change):
    first = Run(examples, tmp_path)
    interrupt_at(first, 3)
    config = replace(CONFIG, batch_size=6) if change == "configuration" else CONFIG
    other = Run(examples, tmp_path, config, validation_fold=None if change == "data" else 1)
    with pytest.raises(ValueError, match="must be continued with its own configuration, data and version"):
        other.fit(resume_from=first.read("last"), version="0.0.2" if change == "version" else "0.0.1")


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_epoch_before(examples, tmp_path):
    run = Run(examples, tmp_path)
    fit_epoch = run.model.fit_epoch

    def fit_and_diverge(epoch, **loaders):
        result = fit_epoch(epoch, **loaders)
        if epoch == 2:
            result.training.losses[3] = math.nan
        return result

    run.model.fit_epoch = fit_and_diverge
    with pytest.raises(FloatingPointError, match=r"training loss must be finite, got nan \(epoch 2\)"):
        run.fit()
    assert run.read("last").epoch == 1


def test_cutouts_of_another_shape_are_refused(examples, tmp_path):
    network = NetworkConfig(n_blocks=2, conv_channels=2, chunk_shape_irc=(8, 8, 12))
    run = Run(examples, tmp_path, replace(CONFIG, network=network))
    with pytest.raises(ValueError, match=r"shape of the network's input \(8, 8, 12\), got \(8, 8, 8\)"):
        run.fit()


def test_a_version_in_training_is_not_trained_twice(examples, tmp_path):
    run = Run(examples, tmp_path)
    with run.store.locked("classification", "0.0.1"), pytest.raises(BlockingIOError):
        run.fit()


@pytest.mark.seed_defect(52, 56, 59)
def test_a_run_may_start_from_the_weights_of_another(examples, tmp_path):
    chosen = Run(examples, tmp_path).fit()
    model = build_model(CONFIG, handler=Recorder(), num_batches=3, start_from=chosen)
    assert torch.equal(
        model.get_module().tail_batchnorm.running_mean, chosen.model_state["tail_batchnorm.running_mean"]
    )
    assert all(parameter.requires_grad for parameter in model.get_module().parameters())
    assert model.num_samples_seen == 0


@pytest.mark.seed_defect(53)
def test_a_checkpoint_with_the_weights_of_another_network_is_refused(examples, tmp_path):
    chosen = Run(examples, tmp_path).fit()
    other = replace(chosen, config=replace(CONFIG, network=replace(CONFIG.network, conv_channels=3)))
    with pytest.raises(ValueError, match=r"Weights must fit the network, got .* \(classification 0.0.1\)"):
        network_of(other)


@pytest.mark.seed_defect(67, 70)
def test_a_run_writes_nothing_outside_its_folder(examples, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Run(examples, tmp_path / "checkpoints", replace(CONFIG, num_epochs=1)).fit()
    assert list((tmp_path / "here").iterdir()) == []


def nan_after_the_last_step_of(epoch, run):
    """Let the optimizer write nan into a weight in the last step of an epoch, after a finite gradient."""
    step, stepper = run.model._stepper.step, run.model._stepper
    num_steps = itertools.count(1)

    def step_and_break():
        values = step()
        if next(num_steps) == epoch * run.data_module.num_training_batches:
            run.model.get_module().luna_head.head_linear.weight.data[0, 0] = math.nan
        return values

    stepper.step = step_and_break


def test_nan_weights_after_the_last_step_get_into_no_checkpoint(examples, tmp_path):
    run = Run(examples, tmp_path, validation_fold=None)
    nan_after_the_last_step_of(2, run)
    with pytest.raises(NonFiniteError, match=r"got nan in luna_head.head_linear.weight \(epoch 2\)"):
        run.fit(seconds_between_checkpoints=0)
    last = run.read("last")
    assert (last.epoch, last.progress.num_batches) == (1, run.data_module.num_training_batches - 1)
    assert all(tensor.isfinite().all() for tensor in last.model_state.values())
    assert run.recorder.of(LogModel) == []


def test_infinite_running_statistics_get_into_no_checkpoint(examples, tmp_path):
    run = Run(examples, tmp_path)
    run.model.get_module().tail_batchnorm.running_var[0] = math.inf
    with pytest.raises(NonFiniteError, match=r"got inf in tail_batchnorm\.running_var \(epoch 0\)"):
        run.fit()


def test_nan_scores_of_a_validation_are_not_called_one_class(examples, tmp_path):
    run = Run(examples, tmp_path)
    validate = run.model.do_validation

    def validate_with_nan(epoch, loader):
        run.model.get_module().luna_head.head_linear.bias.data[:] = math.nan
        return validate(epoch, loader)

    run.model.do_validation = validate_with_nan
    with pytest.raises(NonFiniteError, match=r"validation scores must be finite, got \d+ that are nan"):
        run.fit()
    assert not run.store.path("classification", "0.0.1").exists()
    assert [result.mode for result in run.recorder.of(LogResult)] == [Mode.TRAINING]


def test_a_finite_loss_with_nan_gradients_ends_the_run_in_its_first_batch(examples, tmp_path):
    run = Run(examples, tmp_path)
    compute = run.model.compute_batch_loss

    def infinite_slope(batch):
        loss, result = compute(batch)
        return loss + torch.sqrt(loss - loss.detach()), result

    run.model.compute_batch_loss = infinite_slope
    with pytest.raises(NonFiniteError, match=r"gradient norm must be finite, got nan \(epoch 1, batch 1 of \d+, loss"):
        run.fit(seconds_between_checkpoints=0)
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("start", ["weights", "resume"])
def test_nan_in_the_weights_of_an_older_checkpoint_is_refused_before_the_first_epoch(examples, tmp_path, start):
    run = Run(examples, tmp_path)
    run.model.get_module().luna_head.head_linear.bias.data[0] = math.nan
    resume_from = None
    if start == "resume":
        begun = Run(examples, tmp_path / "other")
        interrupt_at(begun, 2)
        last = begun.read("last")
        state = {**last.model_state, "luna_head.head_linear.bias": torch.tensor([math.nan, 0.0])}
        resume_from = replace(last, model_state=state)
    with pytest.raises(NonFiniteError, match=r"got nan in luna_head.head_linear.bias"):
        run.fit(resume_from=resume_from)
    assert run.recorder.of(LogStart) == []
