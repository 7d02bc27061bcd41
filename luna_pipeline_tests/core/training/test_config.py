import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from luna_pipeline.core.training.config import (
    AugmentationConfig,
    NetworkConfig,
    NoduleRatio,
    OptimizerConfig,
    SchedulerConfig,
    TrainingConfig,
)
from luna_pipeline.core.training.recipes import demo, nodule_baseline, recipe_by_name


@pytest.mark.parametrize("recipe", [nodule_baseline, demo])
def test_config_comes_back_from_json_unchanged(recipe):
    config = recipe()
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_flat_names_each_value_by_its_place():
    flat = replace(demo(), network=NetworkConfig(dropout_rate=0.25), seed=7).flat()
    assert flat["network.dropout_rate"] == 0.25
    assert flat["optimizer.betas"] == (0.9, 0.999)
    assert (flat["ratio.nodule"], flat["ratio.non_nodule"], flat["seed"]) == (1, 2, 7)


@pytest.mark.seed_defect(69)
def test_flat_leaves_no_value_out():
    config = nodule_baseline()
    parts = (config.network, config.optimizer, config.scheduler, config.augmentation, config.ratio)
    num_nested = sum(len(part.__slots__) for part in parts)
    assert len(config.flat()) == num_nested + len(config.__slots__) - len(parts)
    assert {"num_epochs", "batch_size"} <= config.flat().keys()


def test_digest_is_equal_for_equal_and_other_for_other_configurations():
    config = nodule_baseline()
    assert replace(config, seed=0).digest == config.digest
    assert replace(config, seed=1).digest != config.digest
    assert replace(config, optimizer=OptimizerConfig(momentum=0)).digest == replace(
        config, optimizer=OptimizerConfig(momentum=0.0)
    ).digest  # fmt: skip


def test_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        nodule_baseline().seed = 3


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lambda: TrainingConfig(num_epochs=0), "num_epochs must be at least 1, got 0. Change num_epochs."),
        (lambda: TrainingConfig(batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: TrainingConfig(validation_cadence=0), "validation_cadence must be at least 1, got 0"),
        (lambda: TrainingConfig(seed=-1), "seed must be from 0 to 4294967295, got -1"),
        (lambda: NetworkConfig(block="resnet"), "network.block must be one of biased, batch_norm, "),
        (lambda: NetworkConfig(n_blocks=0), "network.n_blocks must be from 1 to 8, got 0"),
        (lambda: NetworkConfig(conv_channels=0), "network.conv_channels must be at least 1, got 0"),
        (lambda: NetworkConfig(dropout_rate=1.0), r"network.dropout_rate must be in \[0, 1\), got 1.0"),
        (lambda: NetworkConfig(dropout_rate=float("nan")), r"dropout_rate must be in \[0, 1\), got nan"),
        (lambda: NetworkConfig(chunk_shape_irc=(15, 48, 48)), "three sizes of at least 16 voxels"),
        (lambda: NetworkConfig(chunk_shape_irc=(32, 48)), "three sizes of at least 16 voxels"),
        (lambda: OptimizerConfig(name="adam"), "optimizer.name must be one of adamw, sgd, got 'adam'"),
        (lambda: OptimizerConfig(learning_rate=0.0), r"learning_rate must be in \(0, 1\], got 0.0"),
        (lambda: OptimizerConfig(learning_rate=float("inf")), r"learning_rate must be in \(0, 1\], got inf"),
        (lambda: OptimizerConfig(weight_decay=-0.1), r"weight_decay must be in \[0, 1\], got -0.1"),
        (lambda: OptimizerConfig(betas=(0.9, 1.0)), r"optimizer.betas\[1\] must be in \[0, 1\), got 1.0"),
        (lambda: OptimizerConfig(betas=(0.9,)), r"optimizer.betas must be two numbers, got \(0.9,\)"),
        (lambda: SchedulerConfig(gamma=0.0), r"scheduler.gamma must be in \(0, 1\], got 0.0"),
        (lambda: AugmentationConfig(flip_probability=1.1), r"flip_probability must be in \[0, 1\], got 1.1"),
        (lambda: NoduleRatio(nodule=0), "ratio.nodule must be at least 1, got 0"),
        (lambda: NoduleRatio(non_nodule=-2), "ratio.non_nodule must be at least 1, got -2"),
    ],
)  # fmt: skip
def test_a_value_outside_its_range_is_refused_in_one_line(build, line):
    with pytest.raises(ValueError, match=line) as refusal:
        build()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", [2.5, "3", True, None])
def test_a_count_that_is_no_whole_number_is_refused(value):
    with pytest.raises(TypeError, match="num_epochs must be a whole number at least 1"):
        TrainingConfig(num_epochs=value)


def test_a_rate_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"scheduler.gamma must be a number in \(0, 1\], got '0.9'"):
        SchedulerConfig(gamma="0.9")


def test_from_dict_refuses_unknown_and_missing_entries():
    values = nodule_baseline().to_dict()
    with pytest.raises(ValueError, match=r"configuration must hold .* got .*colour"):
        TrainingConfig.from_dict({**values, "colour": 1})
    del values["network"]["block"]
    with pytest.raises(ValueError, match="configuration's network must hold"):
        TrainingConfig.from_dict(values)


@pytest.mark.seed_defect(48)
def test_learning_rate_is_still_of_use_after_half_of_a_recipe():
    for config in (nodule_baseline(), demo()):
        assert config.scheduler.gamma ** (config.num_epochs // 2) > 0.5


@pytest.mark.seed_defect(47)
def test_nothing_is_configured_that_training_does_not_read():
    assert not [name for name in nodule_baseline().flat() if "threshold" in name]


def test_configuration_is_read_without_torch():
    code = "import luna_pipeline.core.training.recipes, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_recipe_is_found_by_its_name():
    assert recipe_by_name("demo") == demo()
    with pytest.raises(ValueError, match="recipe must be one of nodule_baseline, demo, got 'dmeo'"):
        recipe_by_name("dmeo")
