"""A run whose process is killed without cleanup is resumed with the results of an uninterrupted run."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from luna_pipeline.core.events.messages import LogBatch
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.training.test_trainer import Run, assert_equal_weights


def train_and_be_killed(root: Path, epoch: int, batch_index: int) -> None:
    torch.set_num_threads(1)
    run = Run(write_examples(root / "cutouts"), root / "checkpoints", num_workers=2)
    handle = run.recorder.handle_message

    def handle_and_die(message):
        handle(message)
        if isinstance(message, LogBatch) and (message.epoch, message.batch_index) == (epoch, batch_index):
            os.kill(os.getpid(), signal.SIGKILL)

    run.recorder.handle_message = handle_and_die
    run.fit(seconds_between_checkpoints=0.0)


@pytest.mark.slow
@pytest.mark.seed_defect(46)
@pytest.mark.parametrize(("epoch", "batch_index"), [(2, 0), (3, 2)])
def test_a_killed_run_loses_the_step_it_was_in_and_nothing_else(tmp_path, epoch, batch_index):
    process = multiprocessing.get_context("spawn").Process(
        target=train_and_be_killed, args=(tmp_path, epoch, batch_index)
    )
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    examples = write_examples(tmp_path / "cutouts")
    run = Run(examples, tmp_path / "checkpoints")
    checkpoint = run.unfinished()
    assert (checkpoint.epoch, checkpoint.progress.num_batches) == (epoch - 1, batch_index)
    got = run.fit(resume_from=checkpoint)
    assert_equal_weights(got, Run(examples, tmp_path / "unbroken").fit())
