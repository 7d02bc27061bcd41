"""Training on a GPU: run by `make test-gpu`; every test is skipped where there is no device."""

import os
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch

from luna_pipeline.core.distributed import distributed_context
from luna_pipeline.core.events.messages import LogBatch, LogMetrics
from luna_pipeline.core.models.pass_results import BATCHES_PER_TRANSFER
from luna_pipeline.core.models.scoring import predict
from luna_pipeline.core.training.building import build_model, network_of
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.recorder import Recorder
from luna_pipeline_tests.core.training.test_trainer import CONFIG, Run, assert_equal_weights, fail_after

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
SINGLE_PRECISION = {"rtol": 0, "atol": 1e-3}
# 16-bit arithmetic keeps 8 bits (bfloat16) of each value.
MIXED_PRECISION = {"rtol": 0, "atol": 5e-2}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cutouts"))


@pytest.fixture(autouse=True)
def deterministic(monkeypatch):
    """Deterministic algorithms in full float32; TF32 keeps 10 bits and would exceed the tolerances."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    # PyTorch has no deterministic backward of max_pool3d and would raise. Its pooling windows do not overlap here, so
    # each input receives one gradient, whatever the order.
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def on_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def short(**changes):
    # A learning rate at which the loss does not grow: otherwise rounding errors grow with it.
    steady = {"network.dropout_rate": 0.0, "optimizer.learning_rate": 1e-3}
    return replace(CONFIG, num_epochs=2).with_changes({**steady, **changes})


def losses(run) -> list[float]:
    return [message.loss for message in run.recorder.of(LogBatch)]


def test_the_model_is_on_the_device(examples, tmp_path):
    assert next(Run(examples, tmp_path).model.get_module().parameters()).is_cuda


@pytest.mark.parametrize("kept_batches", [1, 2, 3])
def test_a_resumed_run_is_bit_equal_to_an_unbroken_one(examples, tmp_path, kept_batches):
    unbroken = Run(examples, tmp_path / "unbroken")
    expected = unbroken.fit()
    fail_after(Run(examples, tmp_path / "broken"), epoch=2, num_batches=kept_batches)
    resumed = Run(examples, tmp_path / "broken")
    assert_equal_weights(resumed.fit(resume_from=resumed.unfinished()), expected)
    assert_equal_weights(resumed.read("last"), unbroken.read("last"))
    wanted = [message.values for message in unbroken.recorder.of(LogMetrics) if message.epoch >= 2]
    assert [message.values for message in resumed.recorder.of(LogMetrics)] == wanted


def test_checkpoints_hold_cpu_tensors(examples, tmp_path):
    state = Run(examples, tmp_path, short())
    state.fit()
    moments = [value for entry in state.model.get_state().optimizer_state["state"].values() for value in entry.values()]
    assert {value.device.type for value in moments} == {"cpu"}


@pytest.mark.parametrize("channels_last", [True, False])
def test_training_and_scores_equal_the_cpus(examples, tmp_path, monkeypatch, channels_last):
    config = short(**{"compute.channels_last": channels_last})
    gpu = Run(examples, tmp_path / "gpu", config)
    chosen = gpu.fit()
    network = network_of(chosen)
    batches = list(gpu.data_module.get_validation_dataloader())
    np.testing.assert_allclose(predict(network.cuda(), batches)[1], predict(network.cpu(), batches)[1], atol=1e-4)
    on_cpu(monkeypatch)
    cpu = Run(examples, tmp_path / "cpu", config)
    cpu.fit()
    np.testing.assert_allclose(losses(gpu), losses(cpu), **SINGLE_PRECISION)


def test_mixed_precision_is_close_to_single_precision(examples, tmp_path):
    single, mixed = (
        Run(examples, tmp_path / str(is_mixed), short(**{"compute.mixed_precision": is_mixed}))
        for is_mixed in (False, True)
    )
    single.fit()
    chosen = mixed.fit()
    np.testing.assert_allclose(losses(mixed), losses(single), **MIXED_PRECISION)
    assert {value.dtype for value in chosen.model_state.values()} == {torch.float32, torch.int64}


def test_a_compiled_network_is_close_to_the_plain_one(examples, tmp_path):
    plain, compiled = (
        Run(examples, tmp_path / str(is_compiled), short(**{"compute.is_compiled": is_compiled}))
        for is_compiled in (False, True)
    )
    plain.fit()
    assert compiled.fit().model_state.keys() == plain.read("best").model_state.keys()
    np.testing.assert_allclose(losses(compiled), losses(plain), **SINGLE_PRECISION)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_pinned_and_copied_asynchronously(examples, tmp_path, num_workers):
    run = Run(examples, tmp_path, short(), num_workers=num_workers)
    batch = next(iter(run.data_module.get_training_dataloader(epoch=1)))
    assert all(values.is_pinned() for values in batch if isinstance(values, torch.Tensor))


def test_a_training_step_does_not_wait_for_the_device(examples, tmp_path):
    run = Run(examples, tmp_path)
    batches = list(run.data_module.get_training_dataloader(epoch=1))
    run.model._train_batch(batches[0], 1, is_step=True)
    run.model._optimizer_step(batches[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            run.model._train_batch(batch, 1, is_step=True)
            run.model._optimizer_step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_does_not_grow_over_fifty_steps(examples, tmp_path):
    run = Run(examples, tmp_path, replace(CONFIG, batch_size=1))
    used = []
    for epoch in range(1, 10):
        run.model.do_training(epoch, run.data_module.get_training_dataloader(epoch=epoch))
        used.append(torch.cuda.memory_allocated())
    assert len(run.data_module.get_training_dataloader(epoch=1)) * (len(used) - 2) > 50 > BATCHES_PER_TRANSFER
    # The second epoch has all of the optimizer's state.
    assert max(used[2:]) <= used[1]


def test_one_process_with_nccl_trains_like_a_single_process(examples, tmp_path, monkeypatch):
    config = short(**{"compute.channels_last": False})
    alone = Run(examples, tmp_path, config)
    expected = alone.model.do_training(1, alone.data_module.get_training_dataloader(epoch=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1"}
    for name, value in address.items():
        monkeypatch.setitem(os.environ, name, value)
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl")
    try:
        with distributed_context() as processes:
            model = build_model(config, handler=Recorder(), num_batches=3, processes=processes)
        model.module = torch.nn.parallel.DistributedDataParallel(model.get_module(), device_ids=[0])
        model._stepper._network = model.module
        got = model.do_training(1, alone.data_module.get_training_dataloader(epoch=1))
    finally:
        torch.distributed.destroy_process_group()
    np.testing.assert_allclose(got.losses, expected.losses, **SINGLE_PRECISION)
