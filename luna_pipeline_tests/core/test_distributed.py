"""Processes that train together: real ones, over gloo."""

import os
import socket
import subprocess
import sys
import textwrap

import torch

from luna_pipeline.core.distributed import SINGLE_PROCESS, DistributedContext, distributed_context

PROGRAM = textwrap.dedent(
    """
    import sys, numpy as np, torch
    from luna_pipeline.core.distributed import distributed_context
    with distributed_context() as processes:
        rank = processes.rank
        network = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.constant_(network.weight, float(rank + 1))
        module = processes.wrap_ddp(network)
        module(torch.full((1, 2), float(rank))).sum().backward()
        print([processes.is_first, processes.largest(rank * 10, -rank),
               processes.sum(np.array([rank + 1.0, 0.5])).tolist(), processes.gather("ab"[rank]),
               processes.broadcast({"rank": rank}), network.weight.tolist(), network.weight.grad.tolist()])
    print("parted", torch.distributed.is_initialized())
    """
)


def run_together(program: str, world_size: int = 2) -> list[str]:
    """Run a program in several processes as torchrun would, and return what each printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world_size),
        "OMP_NUM_THREADS": "1",
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * world_size, outputs
    return [output for output, _ in outputs]


def test_processes_exchange_values_and_average_gradients():
    first, second = (output.splitlines() for output in run_together(PROGRAM))
    # Both begin with the first's weights and have the mean of the gradients 0 and 1.
    shared = "[10, 0], [3.0, 1.0], ['a', 'b'], {'rank': 0}, [[1.0, 1.0]], [[0.5, 0.5]]]"
    assert first == [f"[True, {shared}", "parted False"]
    assert second == [f"[False, {shared}", "parted False"]


def test_alone_everything_is_its_own():
    network = torch.nn.Linear(2, 1)
    assert SINGLE_PROCESS.is_first
    assert SINGLE_PROCESS.largest(3, 1) == [3, 1]
    assert SINGLE_PROCESS.gather("a") == ["a"]
    assert SINGLE_PROCESS.broadcast("b") == "b"
    assert SINGLE_PROCESS.wrap_ddp(network) is network


def test_without_torchrun_a_process_is_alone():
    with distributed_context({}) as processes:
        assert processes == DistributedContext(rank=0, world_size=1, local_rank=0)
    assert not torch.distributed.is_initialized()
