"""Parts of one's own that cannot be right are refused by name before the first epoch; right ones leave no trace."""

import contextlib
import math
import pickle
import random
import re
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.datasets.cutouts import CutoutsDataset
from luna_pipeline.core.datasets.splits import TrainingSplit, split_index
from luna_pipeline.core.distributed import DistributedContext
from luna_pipeline.core.models.classification import NoduleClassificationModel
from luna_pipeline.core.models.optimizer_step import Moment, Schedule
from luna_pipeline.core.networks.config import LOSSES, NETWORKS
from luna_pipeline.core.training.building import build_data_module
from luna_pipeline.core.training.config import MODELS, TRAINERS, NetworkConfig, NoduleRatio, TrainingConfig
from luna_pipeline.core.training.dry_run import dry_run, has_own_parts
from luna_pipeline.core.training.dry_run_checks import PartError
from luna_pipeline.core.training.parts import OPTIMIZERS, SCHEDULERS
from luna_pipeline.core.training.trainer import Trainer
from luna_pipeline_tests.core.cutout_examples import write_examples

CONFIG = TrainingConfig(
    network=NetworkConfig(n_blocks=2, conv_channels=2, dropout_rate=0.2, chunk_shape_irc=(8, 8, 8)),
    ratio=NoduleRatio(nodule=1, non_nodule=1),
    num_epochs=3,
    batch_size=5,
)
PLACES = {
    "network.name": NETWORKS,
    "loss.name": LOSSES,
    "optimizer.name": OPTIMIZERS,
    "scheduler.name": SCHEDULERS,
    "dataset": DATASETS,
    "model": MODELS,
    "trainer": TRAINERS,
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("cutouts"))


@pytest.fixture(scope="module")
def data(examples):
    return data_of(examples, CONFIG)


def data_of(examples, config):
    index, store = examples
    training, validation, _ = split_index(index, TrainingSplit(test_fold=0, validation_fold=1))
    return build_data_module(config, training_index=training, validation_index=validation, store=store)


@contextlib.contextmanager
def own_data_set(kind):
    """Register a data set and yield the configuration of a run with it."""
    DATASETS.register("mine")(kind)
    try:
        yield replace(CONFIG, dataset="mine")
    finally:
        DATASETS.forget("mine")


def tried(data, place, part, config=CONFIG, *, is_exported=False, **processes):
    """Try a run whose part ``mine`` is this one."""
    PLACES[place].register("mine")(part)
    try:
        dry_run(config.with_changes({place: "mine"}), data, OneOfTwo(**processes), is_exported=is_exported)
    finally:
        PLACES[place].forget("mine")


class Plain(nn.Module):
    """A small network that is right."""

    head_name = "head"

    def __init__(self, config):
        super().__init__()
        self.norm = nn.BatchNorm3d(1)
        self.head = nn.Linear(1, 2)

    def forward(self, chunks_hu):
        return self.head(self.norm(chunks_hu).mean(dim=(2, 3, 4)))


def network_whose(change):
    class Changed(Plain):
        def forward(self, chunks_hu):
            return change(super().forward(chunks_hu))

    return Changed


class InPlace(Plain):
    def forward(self, chunks_hu):
        return super().forward(chunks_hu.clamp_(-1000, 0))


class ByBatch(Plain):
    """Scales by the batch instead of the running statistics."""

    def forward(self, chunks_hu):
        return self.head((chunks_hu / (1e-3 + chunks_hu.mean(dim=(2, 3, 4)).std(0, correction=0))).mean(dim=(2, 3, 4)))


class AlwaysDropout(Plain):
    def forward(self, chunks_hu):
        return nn.functional.dropout(super().forward(chunks_hu) + 5.0, 0.5)


class Counting(Plain):
    """Updates a buffer in evaluation, too."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("num_calls", torch.zeros(()))

    def forward(self, chunks_hu):
        self.num_calls += 1
        return super().forward(chunks_hu)


class Untraceable(Plain):
    is_traceable = True

    def forward(self, chunks_hu):
        return super().forward(chunks_hu if chunks_hu.mean() > -1e6 else -chunks_hu)


class Extra(Plain):
    def get_extra_state(self):
        return "a text"

    def set_extra_state(self, state):
        pass


class LateWeights(Plain):
    """Adds a layer in its first batch."""

    def forward(self, chunks_hu):
        if not hasattr(self, "more"):
            self.more = nn.Linear(2, 2)
        return self.more(super().forward(chunks_hu))


class WithoutArgument(Plain):
    def __init__(self):
        super().__init__(None)


LOGITS = r"A network must give logits float32 \(3, 2\) for cutouts float32 \(3, 1, 8, 8, 8\)"
NETWORK_CASES = {
    "three_logits": (network_whose(lambda x: torch.cat([x, x[:, :1]], 1)), rf"{LOGITS}, got float32 \(3, 3\)"),
    "one_logit": (network_whose(lambda x: x[:, 0]), rf"{LOGITS}, got float32 \(3,\)"),
    "turned": (network_whose(lambda x: x.T), rf"{LOGITS}, got float32 \(2, 3\)"),
    "voxels": (network_whose(lambda x: x[..., None, None]), rf"{LOGITS}, got float32 \(3, 2, 1, 1\)"),
    "double": (network_whose(lambda x: x.double()), rf"{LOGITS}, got float64 \(3, 2\)"),
    "half": (network_whose(lambda x: x.half()), rf"{LOGITS}, got float16 \(3, 2\)"),
    "integer": (network_whose(lambda x: x.long()), rf"{LOGITS}, got int64 \(3, 2\)"),
    "tuple": (network_whose(lambda x: (x, x)), rf"{LOGITS}, got a tuple"),
    "dict": (network_whose(lambda x: {"logits": x}), rf"{LOGITS}, got a dict"),
    "nothing": (network_whose(lambda x: None), rf"{LOGITS}, got a NoneType"),
    "nan": (network_whose(lambda x: x * math.nan), rf"{LOGITS} that are finite, got nan"),
    "elsewhere": (network_whose(lambda x: x.to("meta")), rf"{LOGITS} on cpu, got a tensor on meta"),
    "detached": (network_whose(lambda x: x.detach()), "must give logits with a gradient, got logits without"),
    "softmax": (network_whose(lambda x: x.softmax(1)), "must give logits, .* got probabilities"),
    "constant": (network_whose(lambda x: x * 0), "must learn from a batch, got gradients of 0"),
    "nan_gradient": (
        network_whose(lambda x: x + (x - x.detach()).square().sum().sqrt()),
        r"must have finite gradients, got nan or infinity in that of norm\.weight",
    ),
    "fails": (network_whose(lambda x: x @ x), rf"{LOGITS}, got RuntimeError: mat1 and mat2"),
    "squeezed": (network_whose(lambda x: x.squeeze()), r"logits float32 \(1, 2\) .*, got float32 \(2,\)"),
    "in_place": (InPlace, "must leave its input as it is"),
    "by_batch": (ByBatch, "must score each cutout on its own in evaluation"),
    "dropout": (AlwaysDropout, "must give the same logits again in evaluation"),
    "counting": (Counting, "must not change in evaluation"),
    "untraceable": (Untraceable, "must be traceable by torch.fx, got TraceError"),
    "extra_state": (Extra, "as tensors, from the start, got str _extra_state"),
    "late_weights": (
        LateWeights,
        r"all its weights and buffers, as tensors, from the start, got Tensor more\.\w+ after",
    ),
    "arguments": (WithoutArgument, r"must be built from its NetworkConfig, got TypeError: .*2 were given"),
    "no_module": (lambda config: "text", "must be built from its NetworkConfig, got ValueError: A network's head_name"),
}


@pytest.mark.parametrize("case", NETWORK_CASES)
def test_a_wrong_network_is_refused_by_name(data, case):
    network, message = NETWORK_CASES[case]
    with pytest.raises(PartError, match=message) as caught:
        tried(data, "network.name", network)
    assert re.search(r'\(network "\w+"\)\. Fix it, see docs/how_to/extend\.md\.$', str(caught.value))
    assert "\n" not in str(caught.value)


def loss_whose(change):
    class Changed(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.register_buffer("sum", torch.zeros(()))

        def forward(self, logits, labels):
            return change(nn.functional.cross_entropy(logits, labels, reduction="none"), logits, labels, self)

    return Changed


LOSSES_RULE = r"A loss must give losses float32 \(5,\) for logits \(5, 2\), one a sample"
LOSS_CASES = {
    "column": (lambda x, *_: x[:, None], rf"{LOSSES_RULE}, got float32 \(5, 1\)"),
    "mean": (lambda x, *_: x.mean(), rf"{LOSSES_RULE}, got float32 \(\)"),
    "of_classes": (lambda x, logits, *_: logits.abs(), rf"{LOSSES_RULE}, got float32 \(5, 2\)"),
    "double": (lambda x, *_: x.double(), rf"{LOSSES_RULE}, got float64 \(5,\)"),
    "number": (lambda x, *_: 0.5, rf"{LOSSES_RULE}, got a float"),
    "nan": (lambda x, *_: x * math.nan, rf"{LOSSES_RULE} that are finite, got nan"),
    "detached": (lambda x, *_: x.detach(), "must give losses with a gradient"),
    "flat": (lambda x, *_: x * 0, "must have a gradient that is not 0"),
    "nan_gradient": (
        lambda x, logits, *_: x + torch.sqrt((logits - logits.detach()).square().sum(1)),
        "must have finite gradients, got nan for finite losses",
    ),
    "needs_nodules": (
        lambda x, logits, labels, _: x / (labels.sum() > 0),
        r"losses float32 \(2,\) .* that are finite, got inf",
    ),
    "squeezed": (lambda x, *_: x.squeeze(), r"losses float32 \(1,\) .*, got float32 \(\)"),
    "labels": (lambda x, logits, labels, _: x + labels.clamp_(max=0), "must leave logits and labels as they are"),
    "state": (lambda x, logits, labels, self: x + self.sum.add_(1), "must not change its state"),
}


def test_a_loss_with_weights_of_its_own_is_refused(data):
    class Weighted(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(()))

        def forward(self, logits, labels):
            return self.factor * nn.functional.cross_entropy(logits, labels, reduction="none")

    with pytest.raises(PartError, match=r'no weights that learn, which no optimizer has, got some \(loss "mine"\)'):
        tried(data, "loss.name", Weighted)


def test_a_network_that_mlflow_could_not_register_is_refused_if_it_would_be(data):
    class Branching(Plain):
        def forward(self, chunks_hu):
            return super().forward(chunks_hu if float(chunks_hu.mean()) < 1e6 else -chunks_hu)

    tried(data, "network.name", Branching)
    with pytest.raises(PartError, match=r'exportable by torch\.export for MLflow .*, got \w+: .* \(network "mine"\)'):
        tried(data, "network.name", Branching, is_exported=True)
    tried(data, "network.name", Plain, is_exported=True)


@pytest.mark.parametrize("case", LOSS_CASES)
def test_a_wrong_loss_is_refused_by_name(data, case):
    change, message = LOSS_CASES[case]
    with pytest.raises(PartError, match=message + r'.*\(loss "mine"\)\. Fix it, see docs/how_to/extend\.md\.$'):
        tried(data, "loss.name", loss_whose(change))


class Forgetful(torch.optim.SGD):
    """Keeps its momentum where no state has it."""

    def __init__(self, parameters, **options):
        super().__init__(parameters, **options)
        self.last = {}

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                self.last[parameter] = parameter.grad + self.last.get(parameter, 0)
                parameter.data -= 0.1 * self.last[parameter]


class Exploding(torch.optim.SGD):
    def step(self, closure=None):
        self.param_groups[0]["params"][0].data += math.inf


class OddState(torch.optim.SGD):
    def state_dict(self):
        return {**super().state_dict(), "best": np.float32(1.0)}


OPTIMIZER_CASES = {
    "lbfgs": (lambda p, c: torch.optim.LBFGS(p), r"by step\(\) without a closure, got TypeError: .*closure"),
    "none": (lambda p, c: None, r"must be a torch\.optim\.Optimizer, got a NoneType"),
    "others": (lambda p, c: torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1), "got 0 of them and 1 others"),
    "some": (lambda p, c: torch.optim.SGD(p[:1], lr=0.1), "got 1 of them and 0 others"),
    "nan_rate": (lambda p, c: torch.optim.SGD(p, lr=math.nan), "rates must be finite and at least 0, got nan"),
    "exploding": (lambda p, c: Exploding(p, lr=0.1), "must leave finite weights, got nan or infinity in"),
    "odd_state": (lambda p, c: OddState(p, lr=0.1), r"plain values and tensors, got numpy\.float32 in state\['best'\]"),
    "forgetful": (lambda p, c: Forgetful(p, lr=0.1), "must continue from its state, got other weights"),
    "arguments": (lambda p: torch.optim.SGD(p, lr=0.1), "must be built from a list of weights .* got TypeError"),
}


@pytest.mark.parametrize("case", OPTIMIZER_CASES)
def test_a_wrong_optimizer_is_refused_by_name(data, case):
    build, message = OPTIMIZER_CASES[case]
    with pytest.raises(PartError, match=message + r'.*\(optimizer "mine"\)\. Fix it, see docs/how_to/extend\.md\.$'):
        tried(data, "optimizer.name", build)


def by_factor(factor):
    def build(optimizer, config, *, num_epochs, num_steps):
        return Schedule(lr_scheduler.LambdaLR(optimizer, factor), Moment.EPOCH)

    return build


def of_another(optimizer, config, *, num_epochs, num_steps):
    other = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    return Schedule(lr_scheduler.ConstantLR(other), Moment.EPOCH)


class Remembering(lr_scheduler.LRScheduler):
    """Counts where no state has it."""

    def __init__(self, optimizer):
        self.count = 0
        super().__init__(optimizer)

    def get_lr(self):
        self.count += 1
        return [0.1 / self.count for _ in self.optimizer.param_groups]

    def state_dict(self):
        return {}


class Numbers:
    """An object in a state."""


class WithObject(lr_scheduler.StepLR):
    def state_dict(self):
        return {**super().state_dict(), "extra": [Numbers()]}


class Pair(NamedTuple):
    """A tuple of a class of its own."""

    first: int


class WithPair(lr_scheduler.StepLR):
    def state_dict(self):
        return {**super().state_dict(), "extra": Pair(1)}


def schedule_of(kind, *arguments, moment=Moment.EPOCH):
    return lambda optimizer, config, *, num_epochs, num_steps: Schedule(kind(optimizer, *arguments), moment)


SCHEDULER_CASES = {
    "numpy": (by_factor(lambda epoch: np.float64(0.9) ** epoch), r"got numpy\.float64 in state\['_last_lr'\]\[0\]"),
    "object": (schedule_of(WithObject, 3), r"got .*\.Numbers in state\['extra'\]\[0\]"),
    "pair": (schedule_of(WithPair, 3), "plain values and tensors, got values that are read by running code only"),
    "nan": (by_factor(lambda epoch: math.nan if epoch == 2 else 1.0), "must be finite and at least 0, got nan"),
    "negative": (by_factor(lambda epoch: 1.0 - epoch), "must be finite and at least 0, got -"),
    "too_short": (
        schedule_of(lr_scheduler.OneCycleLR, 0.1, 4, moment=Moment.STEP),
        "must advance to the end of the run, got ValueError: Tried to step",
    ),
    "other": (of_another, "must change the optimizer that it is given, got one of another"),
    "forgetful": (schedule_of(Remembering), "must continue from its state, got a rate"),
    "bare": (lambda o, c, *, num_epochs, num_steps: lr_scheduler.ConstantLR(o), "must give a Schedule .* a ConstantLR"),
    "arguments": (lambda optimizer: None, "must be built from an optimizer and its SchedulerConfig, got TypeError"),
}


@pytest.mark.parametrize("case", SCHEDULER_CASES)
def test_a_wrong_schedule_is_refused_by_name(data, case):
    build, message = SCHEDULER_CASES[case]
    with pytest.raises(PartError, match=message + r'.*\(scheduler "mine"\)\. Fix it, see docs/how_to/extend\.md\.$'):
        tried(data, "scheduler.name", build)


def data_set_whose(**changes):
    class Changed(CutoutsDataset):
        def __getitems__(self, wanted):
            batch = super().__getitems__(wanted)
            return batch._replace(**{name: change(getattr(batch, name)) for name, change in changes.items()})

    return Changed


BATCH_CASES = {
    "double": (data_set_whose(chunks_hu=lambda x: x.double()), r"chunks_hu float32 \(3, 1, 8, 8, 8\), got float64"),
    "flat": (data_set_whose(chunks_hu=lambda x: x[:, 0]), r"got float32 \(3, 8, 8, 8\)"),
    "nan": (data_set_whose(chunks_hu=lambda x: x * math.nan), "that are finite, got nan"),
    "labels": (data_set_whose(labels=lambda x: x + 1), r"must give labels 0 and 1, got \[2, 1, 1\]"),
    "float_labels": (data_set_whose(labels=lambda x: x.float()), r"labels int64 \(3,\), got float32 \(3,\)"),
    "fewer": (data_set_whose(groups=lambda x: x[:2]), r"groups int64 \(3,\), got int64 \(2,\)"),
    "tuple": (
        type("Pairs", (CutoutsDataset,), {"__getitems__": lambda self, wanted: (torch.ones(3), torch.ones(3))}),
        "must give a CutoutBatch of 3 samples, got a tuple",
    ),
}


@pytest.mark.parametrize("case", BATCH_CASES)
def test_a_wrong_batch_of_a_data_set_is_refused_by_name(examples, case):
    kind, message = BATCH_CASES[case]
    with own_data_set(kind) as config, pytest.raises(PartError, match=message + r'.*\(data set "mine"\)'):
        dry_run(config, data_of(examples, config))


class ShorterGroups(CutoutsDataset):
    def __init__(self, index, store):
        super().__init__(index, store)
        self.groups = self.groups[: len(self.groups) // 2 + 3]


class ThreeLabels(CutoutsDataset):
    label_names = ("a", "b", "c")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ShorterGroups, r"must have groups as long as its index of 12 rows, got \(9,\)"),
        (ThreeLabels, r"must have two label_names, got \('a', 'b', 'c'\)"),
    ],
)
def test_a_data_set_whose_columns_do_not_fit_is_refused_by_name(examples, kind, message):
    with own_data_set(kind) as config, pytest.raises(PartError, match=message + r' \(data set "mine"\)'):
        dry_run(config, data_of(examples, config))


@pytest.mark.parametrize(
    ("groups_of", "got"),
    [
        (lambda cls, index: np.zeros(len(index) - 1, dtype=int), r"int64 \(\d+,\)"),
        (lambda cls, index: np.zeros((len(index), 1), dtype=int), r"int64 \(\d+, 1\)"),
        (lambda cls, index: np.full(len(index), 2), r"\[2\]"),
        (lambda cls, index: np.full(len(index), math.nan), r"\[nan\]"),
        (lambda cls, index: ["nodule"] * len(index), r"<U6 \(\d+,\)"),
    ],
)
def test_groups_must_be_as_long_as_the_table_and_those_of_the_data_set(examples, groups_of, got):
    kind = type("Mine", (CutoutsDataset,), {"groups_of": classmethod(groups_of)})
    message = rf'from -1 to 1 for each of \d+ rows, got {got} \(data set "mine"\)'
    with own_data_set(kind) as config, pytest.raises(ValueError, match=message):
        data_of(examples, config)


def test_groups_may_be_a_column_of_the_table(examples):
    kind = type("Mine", (CutoutsDataset,), {"groups_of": classmethod(lambda cls, index: index["class"])})
    with own_data_set(kind) as config:
        data = data_of(examples, config)
        dry_run(config, data)
    assert data.training.groups.tolist() == data.training.index["class"].tolist()


class NoResult(NoduleClassificationModel):
    def fit_epoch(self, epoch, **arguments):
        super().fit_epoch(epoch, **arguments)


class NoStep(NoduleClassificationModel):
    def fit_epoch(self, epoch, **arguments):
        arguments.pop("after_step")
        return super().fit_epoch(epoch, **arguments)


class ForgettingWeights(NoduleClassificationModel):
    def load_state(self, state):
        self._stepper.load_state(state.optimizer_state, state.scheduler_state)
        self.num_samples_seen = state.num_samples_seen


class NoSignature(NoduleClassificationModel):
    def get_signature(self):
        return None


class FailingLoss(NoduleClassificationModel):
    def compute_batch_loss(self, batch):
        raise KeyError("labels")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NoResult, "must give an EpochResult with validation, got a NoneType"),
        (NoStep, r"must call after_step after each step, .* got \[\] samples"),
        (ForgettingWeights, "must continue from its checkpoint, got another model_state"),
        (NoSignature, "must give the Signature of its network, got a NoneType"),
        (FailingLoss, "must train and validate an epoch, got KeyError: 'labels'"),
        (lambda module: module, "must be built from .* got TypeError"),
    ],
)
def test_a_wrong_model_is_refused_by_name(data, kind, message):
    with pytest.raises(PartError, match=message + r'.*\(model "mine"\)'):
        tried(data, "model", kind)


class NoEpoch(Trainer):
    def fit_epoch(self, epoch, model, data_module, *, last=None):
        print("a line")
        super().fit_epoch(epoch, model, data_module, last=last)


class NoCheckpoint(Trainer):
    def fit(self, *arguments, **options):
        super().fit(*arguments, **options)


class OldArguments(Trainer):
    def fit_epoch(self, epoch, model):
        return None


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NoEpoch, "must train an epoch .* and return its EpochResult, got a NoneType"),
        (NoCheckpoint, r"must train a run by fit.* and return its Checkpoint, got a NoneType"),
        (OldArguments, "must train an epoch by fit_epoch.*, got TypeError"),
        (lambda config: config, "must be built from the arguments of Trainer, got TypeError"),
    ],
)
def test_a_wrong_trainer_is_refused_by_name(data, kind, message, capsys):
    with pytest.raises(PartError, match=message + r'.*\(trainer "mine"\)'):
        tried(data, "trainer", kind)
    assert capsys.readouterr().out == ""


def test_right_parts_pass_and_leave_no_trace(data):
    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    def seeded():
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)

    def drawing(config):
        drawn()
        return Plain(config)

    seeded()
    wanted = drawn()
    seeded()
    batch = data.training.__getitems__([0, 1, 2])
    before = batch.chunks_hu.clone()
    started = time.perf_counter()
    tried(data, "network.name", drawing)
    assert time.perf_counter() - started < 2
    assert drawn() == wanted
    assert torch.equal(batch.chunks_hu, before)


@pytest.mark.parametrize("frozen", ["nothing", "batch_norm", "backbone"])
def test_right_parts_pass_in_every_kind_of_run(data, frozen):
    config = CONFIG.with_changes({"clipping.norm": 1.0}, accumulated_batches=2, frozen=frozen, num_epochs=1)
    tried(data, "loss.name", loss_whose(lambda x, *_: x - 0.5), config)
    tried(data, "trainer", Trainer, config)
    tried(data, "model", NoduleClassificationModel, config)
    for scheduler in ("constant", "step", "cosine", "one_cycle", "plateau"):
        tried(
            data,
            "optimizer.name",
            lambda p, c: torch.optim.Adagrad(p),
            replace(config, scheduler=replace(config.scheduler, name=scheduler)),
        )


class OneOfTwo(DistributedContext):
    """A process whose first one has found this error."""

    found = None

    def broadcast(self, value):
        return value if self.is_first else self.found


def test_other_processes_leave_it_to_the_first_and_raise_its_error(data, monkeypatch):
    monkeypatch.setattr("luna_pipeline.core.training.dry_run._batch", lambda *_: pytest.fail("tried"))
    config = CONFIG.with_changes(name="other")
    dry_run(config, data, OneOfTwo(rank=1, world_size=2))
    monkeypatch.setattr(OneOfTwo, "found", pickle.loads(pickle.dumps(PartError("A loss must ..."))))
    with pytest.raises(PartError, match=r"^A loss must"):
        dry_run(config, data, OneOfTwo(rank=1, world_size=2))


def test_parts_of_the_project_are_not_tried(data, monkeypatch):
    assert not has_own_parts(CONFIG)
    monkeypatch.setattr("luna_pipeline.core.training.dry_run._batch", lambda *_: pytest.fail("tried"))
    dry_run(CONFIG, data)


def test_processes_that_train_together_need_a_gradient_for_each_weight(data):
    class Unused(Plain):
        def __init__(self, config):
            super().__init__(config)
            self.unused = nn.Linear(1, 1)

    tried(data, "network.name", Unused)
    with pytest.raises(PartError, match=r"each weight must have a gradient, got none for unused\.weight"):
        tried(data, "network.name", Unused, world_size=2)


@pytest.mark.parametrize(
    ("batch_size", "world_size", "better"),
    [(1, 1, 2), (11, 1, 12), (5, 1, None), (4, 2, None), (5, 4, 12), (99, 1, None)],
)
def test_batch_norms_over_single_values_refuse_a_batch_of_one_before_the_first_epoch(
    examples, batch_size, world_size, better
):
    class Single(Plain):
        def forward(self, chunks_hu):
            return self.head(self.norm(chunks_hu.mean(dim=(2, 3, 4), keepdim=True)).flatten(1))

    config = replace(CONFIG, batch_size=batch_size)
    data = data_of(examples, config)
    assert len(data.training) == 12
    if better is None:
        tried(data, "network.name", Single, config, world_size=world_size)
        return
    with pytest.raises(ValueError, match=rf"two samples a process .* network 'mine', .* Set batch_size to {better}\."):
        tried(data, "network.name", Single, config, world_size=world_size)
