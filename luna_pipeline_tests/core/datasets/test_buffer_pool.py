import multiprocessing
import threading

import pytest
import torch

from luna_pipeline.core.datasets.buffer_pool import BufferPool

SHAPE = (2, 1, 3)


def address(tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def test_memory_that_nobody_can_reach_is_used_again():
    buffers = BufferPool()
    first = buffers.empty(SHAPE)
    assert (first.shape, first.dtype) == (SHAPE, torch.float32)
    before = address(first)
    del first
    assert address(buffers.empty(SHAPE)) == before
    assert address(buffers.empty((1, 1, 3))) == before


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
    buffers = BufferPool()
    batch = buffers.empty(SHAPE)
    before, kept = address(batch), keep(batch)
    del batch
    others = [buffers.empty(SHAPE) for _ in range(3)]
    assert before not in map(address, others)
    del kept
    assert before in {address(buffers.empty(SHAPE)) for _ in range(3)}


def test_batches_in_use_at_the_same_time_lie_apart():
    buffers = BufferPool()
    batches = [buffers.empty(SHAPE).fill_(number) for number in range(5)]
    assert [batch.unique().tolist() for batch in batches] == [[0.0], [1.0], [2.0], [3.0], [4.0]]


def test_a_larger_batch_gets_memory_of_its_own_and_an_empty_one_works():
    buffers = BufferPool()
    buffers.empty((1,))
    assert buffers.empty((100,)).fill_(7).sum() == 700
    assert buffers.empty((0, 1, 3)).shape == (0, 1, 3)


def test_threads_share_no_memory():
    buffers, is_right = BufferPool(), []

    def fill(number):
        for _ in range(300):
            batch = buffers.empty((64,)).fill_(number)
            is_right.append(bool((batch == number).all()))

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert is_right == [True] * 1200


def test_a_forked_process_does_not_write_into_this_ones_memory():
    buffers = BufferPool()
    buffers.empty(SHAPE)
    process = multiprocessing.get_context("fork").Process(target=lambda: buffers.empty(SHAPE).fill_(9))
    batch = buffers.empty(SHAPE).fill_(1)
    del batch
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (buffers.empty(SHAPE) == 1).all()
