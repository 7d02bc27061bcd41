import multiprocessing
import threading

import pytest
import torch

from luna_pipeline.core.datasets.rooms import Rooms

SHAPE = (2, 1, 3)


def address(tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def test_memory_that_nobody_can_reach_is_used_again():
    rooms = Rooms()
    first = rooms.empty(SHAPE)
    assert (first.shape, first.dtype) == (SHAPE, torch.float32)
    before = address(first)
    del first
    assert address(rooms.empty(SHAPE)) == before
    assert address(rooms.empty((1, 1, 3))) == before


@pytest.mark.parametrize(
    "keep",
    [
        lambda batch: batch,
        lambda batch: batch[1:],
        lambda batch: batch.numpy()[1:, 0],
        lambda batch: batch.reshape(-1)[2:].numpy()[1:],
        lambda batch: batch.detach().unsqueeze(0),
        lambda batch: (torch.ones(SHAPE, requires_grad=True) * batch).sum(),
        lambda batch: memoryview(batch.numpy()),
    ],
    ids=["tensor", "view", "array", "view of an array", "other shape", "graph", "memory"],
)
def test_memory_that_somebody_may_still_read_is_not_used_again(keep):
    rooms = Rooms()
    batch = rooms.empty(SHAPE)
    before, kept = address(batch), keep(batch)
    del batch
    others = [rooms.empty(SHAPE) for _ in range(3)]
    assert before not in map(address, others)
    del kept
    assert before in {address(rooms.empty(SHAPE)) for _ in range(3)}


def test_batches_in_use_at_the_same_time_lie_apart():
    rooms = Rooms()
    batches = [rooms.empty(SHAPE).fill_(number) for number in range(5)]
    assert [batch.unique().tolist() for batch in batches] == [[0.0], [1.0], [2.0], [3.0], [4.0]]


def test_a_larger_batch_gets_memory_of_its_own_and_an_empty_one_works():
    rooms = Rooms()
    rooms.empty((1,))
    assert rooms.empty((100,)).fill_(7).sum() == 700
    assert rooms.empty((0, 1, 3)).shape == (0, 1, 3)


def test_threads_share_no_memory():
    rooms, is_right = Rooms(), []

    def fill(number):
        for _ in range(300):
            batch = rooms.empty((64,)).fill_(number)
            is_right.append(bool((batch == number).all()))

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert is_right == [True] * 1200


def test_a_forked_process_does_not_write_into_this_ones_memory():
    rooms = Rooms()
    rooms.empty(SHAPE)
    process = multiprocessing.get_context("fork").Process(target=lambda: rooms.empty(SHAPE).fill_(9))
    batch = rooms.empty(SHAPE).fill_(1)
    del batch
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (rooms.empty(SHAPE) == 1).all()
