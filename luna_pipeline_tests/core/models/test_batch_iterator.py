import contextlib
import multiprocessing
import time

import pytest
from torch.utils.data import DataLoader

from luna_pipeline.core.events.messages import LogBatchEnd, LogBatchStart, Mode
from luna_pipeline.core.models.batch_iterator import BatchIteratorProvider
from luna_pipeline_tests.core.recorder import Recorder


def as_list(batch):
    return list(batch)


def slow(batch):
    time.sleep(0.2)
    return batch


def fail(batch):
    raise OSError("no disk")


def enumerate_seven(recorder, *, num_workers=0, collate_fn=as_list, first_batch=0):
    loader = DataLoader(range(7), batch_size=3, num_workers=num_workers, collate_fn=collate_fn)
    return BatchIteratorProvider(recorder).enumerate_batches(
        loader, epoch=2, mode=Mode.VALIDATION, first_batch=first_batch
    )


@pytest.mark.seed_defect(42)
def test_every_batch_is_handed_out_with_its_number():
    assert list(enumerate_seven(Recorder())) == [(0, [0, 1, 2]), (1, [3, 4, 5]), (2, [6])]


def test_a_pass_is_reported_at_both_ends():
    recorder = Recorder()
    batches = enumerate_seven(recorder)
    assert next(batches)[0] == 0
    assert recorder.messages == [LogBatchStart(epoch=2, mode=Mode.VALIDATION, num_batches=3)]
    list(batches)
    (end,) = recorder.of(LogBatchEnd)
    assert (end.epoch, end.mode, end.num_batches) == (2, Mode.VALIDATION, 3)
    assert 0 < end.seconds < 60


def test_a_pass_that_goes_on_counts_from_where_it_was():
    recorder = Recorder()
    assert [number for number, _ in enumerate_seven(recorder, first_batch=4)] == [4, 5, 6]
    assert [message.num_batches for message in recorder.messages] == [7, 7]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_waiting_is_the_time_in_the_loader_and_not_the_time_of_the_step(num_workers):
    recorder = Recorder()
    loader = DataLoader(range(4), batch_size=2, num_workers=num_workers, collate_fn=slow)
    provider = BatchIteratorProvider(recorder)
    for _ in provider.enumerate_batches(loader, epoch=1, mode=Mode.TRAINING):
        time.sleep(0.5)
    (end,) = recorder.of(LogBatchEnd)
    # Without workers both batches are waited for; with one the second is made during the first step.
    assert end.seconds_waiting >= (0.4 if num_workers == 0 else 0.2)
    assert end.seconds >= end.seconds_waiting + 1.0
    assert provider.seconds_waiting == end.seconds_waiting


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_workers_are_gone_when_an_interrupt_arrives(error):
    recorder = Recorder()

    def interrupt():
        with contextlib.closing(enumerate_seven(recorder, num_workers=2)) as batches:
            for _ in batches:
                assert len(multiprocessing.active_children()) == 2
                raise error

    with pytest.raises(error):
        interrupt()
    assert multiprocessing.active_children() == []
    assert recorder.of(LogBatchEnd) == []


def test_workers_are_gone_though_a_traceback_knows_the_loader():
    with pytest.raises(OSError, match="no disk") as failure:
        list(enumerate_seven(Recorder(), num_workers=2, collate_fn=fail))
    assert multiprocessing.active_children() == []
    del failure
