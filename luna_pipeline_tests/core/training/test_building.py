from dataclasses import replace

import pytest
import torch

from luna_pipeline.core.distributed import SINGLE_PROCESS
from luna_pipeline.core.training.building import build_model
from luna_pipeline.core.training.config import NetworkConfig, OptimizerConfig, SchedulerConfig, TrainingConfig
from luna_pipeline_tests.core.recorder import Recorder

CONFIG = TrainingConfig(
    network=NetworkConfig(n_blocks=2, conv_channels=2, chunk_shape_irc=(8, 8, 8)),
    optimizer=OptimizerConfig(learning_rate=0.02, weight_decay=0.03, betas=(0.7, 0.8), momentum=0.6),
    scheduler=SchedulerConfig(gamma=0.4),
)


def build(config=CONFIG):
    return build_model(config, handler=Recorder(), num_batches=3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw", {"lr": 0.02, "weight_decay": 0.03, "betas": (0.7, 0.8)}),
        ("sgd", {"lr": 0.02, "weight_decay": 0.03, "momentum": 0.6}),
    ],
)
def test_optimizer_and_scheduler_are_as_configured(name, expected):
    state = build(replace(CONFIG, optimizer=replace(CONFIG.optimizer, name=name))).get_state()
    (group,) = state.optimizer_state["param_groups"]
    assert {key: group[key] for key in expected} == expected
    assert state.scheduler_state["gamma"] == 0.4


def test_first_weights_follow_from_the_seed_and_leave_the_random_numbers_of_the_caller_alone():
    before = torch.get_rng_state()
    weights = [build(replace(CONFIG, seed=seed)).get_state().model_state for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    name = "luna_blocks.0.conv1.weight"
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])


def test_a_new_network_has_no_opinion():
    torch.manual_seed(0)
    module = build(TrainingConfig()).get_module()
    chunks_hu = torch.randn(8, 1, 32, 48, 48) * 300 - 700
    losses = torch.nn.functional.cross_entropy(module(chunks_hu), torch.tensor([0, 1] * 4), reduction="none")
    assert losses.mean().item() == pytest.approx(0.69, abs=0.1)


def test_training_is_on_the_gpu_where_there_is_one():
    assert SINGLE_PROCESS.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert next(build().get_module().parameters()).device.type == SINGLE_PROCESS.device.type
