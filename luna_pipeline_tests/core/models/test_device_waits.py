"""Which operations of a training step would wait for a GPU, counted on the CPU."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from luna_pipeline.core.distributed import SINGLE_PROCESS
from luna_pipeline.core.events.messages import Mode
from luna_pipeline.core.models.pass_results import BATCHES_PER_TRANSFER, BatchResult, PassResults
from luna_pipeline.core.training.building import build_model
from luna_pipeline.core.training.config import AugmentationConfig
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.models.test_classification import CONFIG, make_data_module
from luna_pipeline_tests.core.recorder import Recorder

# Operations whose result depends on values of a tensor: on a GPU the host waits for all kernels before them.
WAITING = {"_local_scalar_dense", "item", "nonzero", "equal", "masked_select", "is_nonzero"}


class Waits(TorchDispatchMode):
    """Counts operations that wait, and the transfers of ``Tensor.cpu``."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        is_mask = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        self.counts[name] += name in WAITING or is_mask
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cutouts"))


@pytest.mark.parametrize("loss", ["cross_entropy", "weighted_cross_entropy", "focal"])
@pytest.mark.parametrize("norm", [None, 0.5])
def test_a_training_step_waits_for_nothing(examples, monkeypatch, loss, norm):
    config = CONFIG.with_changes({"loss.name": loss, "clipping.norm": norm})
    config = replace(config, augmentation=AugmentationConfig.all_five())
    model = build_model(config, handler=Recorder(), num_batches=4)
    batches = list(make_data_module(examples).get_training_dataloader(epoch=1))
    model._train_batch(batches[0], 1, is_step=True)
    model._optimizer_step(batches[0])
    copies = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copies.append(tensor) or tensor)
    with Waits() as waits:
        for batch in batches:
            model._train_batch(batch, 1, is_step=True)
            values = model._optimizer_step(batch)
    # AdamW counts its steps in tensors on the CPU, and reads them there.
    steps_on_cpu = len(batches) * len(model._stepper.optimizer.state)
    assert +waits.counts in (Counter(), Counter(_local_scalar_dense=steps_on_cpu))
    assert copies == []
    assert isinstance(values["gradient_norm"], torch.Tensor)


def batch_result(number, size=3) -> BatchResult:
    """Losses number, number + 1, ...; the last sample is a filler."""
    ids = torch.arange(size)
    values = (number + ids).float()
    return BatchResult(ids, ids % 2, values / 100, values, ids % 2, ids < size - 1)


class OneOfTwo(type(SINGLE_PROCESS)):
    """A process whose partner has the same results; counts reductions."""

    num_sums = 0

    def sum(self, values):
        type(self).num_sums += 1
        return 2 * values


def test_results_of_several_processes_share_transfers_and_reductions(monkeypatch):
    OneOfTwo.num_sums, reported, copies = 0, [], []
    to_cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copies.append(tensor) or to_cpu(tensor))
    num_batches = BATCHES_PER_TRANSFER + 2
    results = PassResults(3, Mode.TRAINING, num_batches, OneOfTwo(world_size=2), reported.append)
    for number in range(num_batches):
        values = {"gradient_norm": torch.tensor(number + 0.5), "learning_rate": 0.1} if number else {}
        results.add(number, batch_result(number), values=values, num_samples_seen=10 * number)
        assert len(reported) == (0 if number + 1 < BATCHES_PER_TRANSFER else max(16, 18 * (number == 17)))
    assert (len(copies), OneOfTwo.num_sums) == (2, 2)
    assert [message.batch_index for message in reported] == list(range(num_batches))
    # The filler, whose loss is number + 2, does not count.
    assert [message.loss for message in reported] == [number + 0.5 for number in range(num_batches)]
    assert [message.num_samples_seen for message in reported] == [10 * number for number in range(num_batches)]
    assert reported[0].values == {}
    assert [message.values["gradient_norm"] for message in reported[1:]] == [n + 0.5 for n in range(1, num_batches)]
    assert {message.values["learning_rate"] for message in reported[1:]} == {0.1}
    np.testing.assert_array_equal(results.parts[5].losses, [5.0, 6.0])
    np.testing.assert_allclose(results.parts[5].scores, [0.05, 0.06])


def test_an_early_transfer_reports_what_waits_and_nothing_twice():
    reported = []
    results = PassResults(1, Mode.TRAINING, 99, OneOfTwo(world_size=2), reported.append)
    results.add(0, batch_result(0), values={}, num_samples_seen=0)
    results.transfer()
    results.transfer()
    assert len(reported) == len(results.parts) == 1
