"""What trackers share."""

import pytest

from luna_pipeline.core.messages import LogBatch, LogMetrics, Mode
from luna_pipeline.tracking.handlers import BATCH_LOSS_KEY, handlers_by_message, is_kept


def batch(index: int, mode: Mode = Mode.TRAINING) -> LogBatch:
    return LogBatch(epoch=1, mode=mode, batch_index=index, num_batches=9, num_samples_seen=4, loss=0.1)


@pytest.mark.seed_defect(42)
def test_the_first_batch_is_kept_and_then_each_nth():
    kept = [index for index in range(9) if is_kept(batch(index), every_nth_batch=4)]
    assert kept == [0, 4, 8]


def test_validation_batches_are_not_kept():
    assert not is_kept(batch(0, Mode.VALIDATION), every_nth_batch=1)


def test_every_zeroth_batch_is_refused():
    with pytest.raises(ValueError, match="every_nth_batch must be at least 1, got 0"):
        is_kept(batch(0), every_nth_batch=0)


@pytest.mark.seed_defect(44)
def test_batch_losses_have_a_key_of_their_own():
    assert BATCH_LOSS_KEY not in {f"{mode}/loss" for mode in Mode}


def test_handlers_of_several_trackers_stand_side_by_side():
    def first(message):
        pass

    def second(message):
        pass

    together = handlers_by_message([{LogBatch: first, LogMetrics: first}, {LogBatch: second}])
    assert together == {LogBatch: [first, second], LogMetrics: [first]}
