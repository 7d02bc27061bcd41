"""Training time of a run, over its epochs and attempts."""

import math
import time
from dataclasses import replace

import pytest

from luna_pipeline.core.distributed import SINGLE_PROCESS
from luna_pipeline.core.models.base import EpochProgress, EpochResult
from luna_pipeline.core.training.checkpoint_manager import CheckpointManager
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.training.test_trainer import CONFIG, Run, interrupt_at, result_of_auc


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cutouts"))


class Clock:
    """A clock that advances only by hand."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def run(examples, tmp_path):
    """A run with a clock, and the checkpoint manager that reads it."""
    run = Run(examples, tmp_path)
    run.clock = Clock()
    run.keeper = CheckpointManager(
        CONFIG, handler=run.recorder, store=run.store, processes=SINGLE_PROCESS, clock=run.clock
    )
    return run


def begun(run):
    return run.keeper.start(run.model, run.data_module, version="0.0.1", started_from=None)


def an_epoch(run, last, *, seconds, auc):
    run.clock.seconds += seconds
    return run.keeper.save_epoch(last, EpochResult(result_of_auc(0.8), result_of_auc(auc)), run.model)


def test_the_seconds_of_all_epochs_are_summed_up_and_waiting_before_the_first_is_not(run):
    run.clock.seconds += 500
    last = begun(run)
    assert last.training_seconds == 0
    first = an_epoch(run, last, seconds=30, auc=0.6)
    second = an_epoch(run, first, seconds=12, auc=0.7)
    assert (first.training_seconds, second.training_seconds) == (30, 42)
    assert run.read("last").training_seconds == 42


def test_an_epoch_that_was_ended_half_way_counts_once_and_the_break_not_at_all(run):
    first = an_epoch(run, begun(run), seconds=30, auc=0.6)
    for seconds in (4, 3):
        run.clock.seconds += seconds
        run.keeper.save_progress(first, EpochProgress(), run.model)
    assert run.read("last").training_seconds == 37
    run.clock.seconds += 100_000
    last = run.keeper.resume(run.model, run.read("last"))
    assert an_epoch(run, last, seconds=5, auc=0.7).training_seconds == 42


def test_the_chosen_epoch_has_the_seconds_of_the_whole_run_and_its_own_decision(run):
    best = an_epoch(run, begun(run), seconds=30, auc=0.9)
    chosen = run.keeper.finish(an_epoch(run, best, seconds=12, auc=0.6), run.model)
    assert (chosen.epoch, chosen.training_seconds, chosen.decision) == (1, 42, best.decision)
    assert run.read("best").training_seconds == 42


def test_seconds_that_nobody_measured_stay_unknown(run):
    unknown = replace(begun(run), training_seconds=math.nan)
    assert math.isnan(an_epoch(run, run.keeper.resume(run.model, unknown), seconds=5, auc=0.6).training_seconds)


def test_a_run_in_two_attempts_takes_no_longer_than_both(examples, tmp_path):
    started = time.monotonic()
    interrupt_at(Run(examples, tmp_path), 3)
    resumed = Run(examples, tmp_path)
    before = resumed.unfinished().training_seconds
    assert 0 < before < resumed.fit(resume_from=resumed.unfinished()).training_seconds < time.monotonic() - started
