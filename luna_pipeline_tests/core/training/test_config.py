import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from luna_pipeline.core.datasets.augmentation import Flip
from luna_pipeline.core.training.config import (
    AugmentationConfig,
    ClippingConfig,
    ComputeConfig,
    EarlyStoppingConfig,
    NetworkConfig,
    NoduleRatio,
    OptimizerConfig,
    SchedulerConfig,
    StartConfig,
    TrainingConfig,
)
from luna_pipeline.core.training.recipes import (
    demo,
    demo_malignancy,
    malignancy_baseline,
    nodule_baseline,
    recipe_by_name,
)


@pytest.mark.parametrize("recipe", [nodule_baseline, malignancy_baseline, demo, demo_malignancy])
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
    flat = config.flat()
    values = json.loads(json.dumps(config.to_dict()))
    assert len(flat) == count_of_values(values)
    assert {"num_epochs", "batch_size", "augmentation.noise.std_hu"} <= flat.keys()


def count_of_values(values) -> int:
    return sum(count_of_values(value) for value in values.values()) if isinstance(values, dict) else 1


def test_a_variant_names_what_it_changes_by_its_place():
    config = nodule_baseline().with_changes(
        {"network.dropout_rate": 0.4, "augmentation.noise.std_hu": 5.0, "num_epochs": 3}, batch_size=7
    )
    assert (config.network.dropout_rate, config.augmentation.noise.std_hu) == (0.4, 5.0)
    assert (config.num_epochs, config.batch_size) == (3, 7)
    assert config.network.block == nodule_baseline().network.block


@pytest.mark.parametrize("place", ["colour", "network.colour", "seed.colour"])
def test_a_variant_of_an_unknown_place_is_refused(place):
    with pytest.raises(ValueError, match="A configuration's value must be one of"):
        nodule_baseline().with_changes({place: 1})


def test_a_variant_is_checked_like_any_other():
    with pytest.raises(ValueError, match=r"network.dropout_rate must be in \[0, 1\), got 1.5"):
        nodule_baseline().with_changes({"network.dropout_rate": 1.5})


def test_digest_is_equal_for_equal_and_other_for_other_configurations():
    config = nodule_baseline()
    assert replace(config, seed=0).digest == config.digest
    assert replace(config, seed=1).digest != config.digest
    assert (
        replace(config, optimizer=OptimizerConfig(momentum=0)).digest
        == replace(config, optimizer=OptimizerConfig(momentum=0.0)).digest
    )


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
        (lambda: OptimizerConfig(name="adam"), "The optimizer must be one of adamw, sgd, got 'adam'"),
        (lambda: OptimizerConfig(learning_rate=0.0), r"learning_rate must be in \(0, 1\], got 0.0"),
        (lambda: OptimizerConfig(learning_rate=float("inf")), r"learning_rate must be in \(0, 1\], got inf"),
        (lambda: OptimizerConfig(weight_decay=-0.1), r"weight_decay must be in \[0, 1\], got -0.1"),
        (lambda: OptimizerConfig(betas=(0.9, 1.0)), r"optimizer.betas\[1\] must be in \[0, 1\), got 1.0"),
        (lambda: OptimizerConfig(betas=(0.9,)), r"optimizer.betas must be two numbers, got \(0.9,\)"),
        (lambda: SchedulerConfig(gamma=0.0), r"scheduler.gamma must be in \(0, 1\], got 0.0"),
        (lambda: AugmentationConfig(flip=Flip(probability=1.1)), r"flip.probability must be in \[0, 1\], got 1.1"),
        (lambda: NoduleRatio(nodule=0), "ratio.nodule must be from 1 to 1000000, got 0"),
        (lambda: NoduleRatio(non_nodule=-2), "ratio.non_nodule must be from 1 to 1000000, got -2"),
        (lambda: TrainingConfig(dataset="ct"), "The data set must be one of cutouts, .*nodule_masks, got 'ct'"),
        (lambda: TrainingConfig(model="mine"), "The model must be one of nodule_classification, .* got 'mine'"),
        (lambda: TrainingConfig(trainer="mine"), "The trainer must be one of trainer, got 'mine'"),
        (lambda: TrainingConfig(frozen="head"), "frozen must be one of nothing, batch_norm, backbone, got 'head'"),
        (lambda: TrainingConfig(accumulated_batches=0), "accumulated_batches must be at least 1, got 0"),
        (lambda: SchedulerConfig(name="linear"), "The scheduler must be one of constant, exponential, step, "),
        (lambda: SchedulerConfig(name="plateau", gamma=1.0), "scheduler.gamma must be below 1 for plateau, got 1.0"),
        (lambda: SchedulerConfig(step_epochs=0), "scheduler.step_epochs must be at least 1, got 0"),
        (lambda: SchedulerConfig(final_share=0.0), r"scheduler.final_share must be in \(0, 1\], got 0.0"),
        (lambda: ClippingConfig(norm=0.0), r"clipping.norm must be in \(0, inf\), got 0.0"),
        (lambda: ClippingConfig(value=-1.0), r"clipping.value must be in \(0, inf\), got -1.0"),
        (lambda: EarlyStoppingConfig(patience=0), "early_stopping.patience must be at least 1, got 0"),
        (lambda: EarlyStoppingConfig(min_delta=-0.1), r"early_stopping.min_delta must be in \[0, 1\], got -0.1"),
        (lambda: StartConfig(loader="s3"), "start.loader must be one of file, mlflow, got 's3'"),
        (lambda: StartConfig(name="a"), "start.name and start.version must be given together, got 'a' and None"),
    ],
)
def test_a_value_outside_its_range_is_refused_in_one_line(build, line):
    with pytest.raises(ValueError, match=line) as refusal:
        build()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", [2.5, "3", True, None])
def test_a_count_that_is_no_whole_number_is_refused(value):
    with pytest.raises(TypeError, match="num_epochs must be a whole number at least 1"):
        TrainingConfig(num_epochs=value)


def test_a_switch_that_is_neither_true_nor_false_is_refused():
    with pytest.raises(TypeError, match=r"compute\.is_compiled must be True or False, got 'yes'"):
        ComputeConfig(is_compiled="yes")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"network": 5}, "network must be a part of the configuration, got 5. Name one of its values"),
        ({"loss": "focal"}, "loss must be a part of the configuration, got 'focal'"),
        ({"version": 0.1}, "version must be a text, got 0.1"),
        ({"use_annotations": "False"}, "use_annotations must be True or False, got 'False'"),
        ({"start.new_head": 1}, "start.new_head must be True or False, got 1"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(changes, line):
    with pytest.raises(TypeError, match=line):
        nodule_baseline().with_changes(changes)


def test_pairs_of_options_are_taken_as_json_has_them():
    config = nodule_baseline().with_changes({"network.name": "convnext", "network.options": [["blocks_per_level", 2]]})
    assert config.network.options == (("blocks_per_level", 2),)


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
    for config in (nodule_baseline(), malignancy_baseline(), demo(), demo_malignancy()):
        assert config.scheduler.gamma ** (config.num_epochs // 2) > 0.5


@pytest.mark.seed_defect(47)
def test_nothing_is_configured_that_training_does_not_read():
    assert not [name for name in nodule_baseline().flat() if "threshold" in name]


def test_configuration_is_read_without_torch():
    code = "import luna_pipeline.core.training.recipes, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_recipe_is_found_by_its_name():
    assert recipe_by_name("demo") == demo()
    with pytest.raises(
        ValueError,
        match=r"The recipe must be one of nodule_baseline, .* got 'dmeo'",
    ):
        recipe_by_name("dmeo")


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("network.nam", "x", "must be one of network.block, .*, got 'network.nam'. Did you mean 'network.name'"),
        ("netwrok.name", "luna", "got 'netwrok.name'. Did you mean 'network.name'"),
        ("betas", 0.9, "got 'betas'. Did you mean 'optimizer.betas'"),
        ("dropout_rat", 0.3, "got 'dropout_rat'. Did you mean 'network.dropout_rate'"),
        ("network.conv_chanels", 8, "got 'network.conv_chanels'. Did you mean 'network.conv_channels'"),
        (
            "augmentation.noise.std",
            3,
            "augmentation.noise.std_hu, got 'augmentation.noise.std'. Did you mean 'augmentation.noise.std_hu'",
        ),
        ("network.name.x", 1, "got 'network.name.x'. Did you mean 'network.name'"),
        ("network.", 1, "got 'network.'. Did you mean 'network"),
        ("colour", 1, "version, got 'colour'. See `TrainingConfig`"),
        ("", 1, "got ''. See `TrainingConfig`"),
        ("optimizer.betas", 0.9, r"optimizer.betas must be two numbers, got 0.9. Write \[0.9, 0.999\]"),
        ("network.chunk_shape_irc", 32, r"network.chunk_shape_irc must be three whole numbers, got 32. Write \[32, "),
        ("network.chunk_shape_irc", None, "network.chunk_shape_irc must be three whole numbers, got None"),
        ("network.chunk_shape_irc", [32.5, 48, 48], r"network.chunk_shape_irc\[0\] must be a whole number .*got 32.5"),
        ("network.chunk_shape_irc", ["a", 48, 48], r"network.chunk_shape_irc\[0\] must be a whole number .*got 'a'"),
        (
            "augmentation.flip",
            0.5,
            "augmentation.flip must be a part of the configuration, got 0.5. Name one of its "
            "values, such as augmentation.flip.probability",
        ),
        ("augmentation.offset", [1, 2], r"augmentation.offset must be a part of the configuration, got \(1, 2\)"),
        ("augmentation", {}, "augmentation must be a part of the configuration, got {}"),
    ],
)
def test_a_wrong_change_names_its_whole_place_and_the_nearest_one(place, value, line):
    with pytest.raises((ValueError, TypeError), match=line):
        nodule_baseline().with_changes({place: value})


def test_a_misspelled_key_of_a_whole_configuration_names_the_nearest_one():
    values = nodule_baseline().to_dict()
    values["network"]["nam"] = values["network"].pop("name")
    with pytest.raises(ValueError, match=r"configuration's network must hold .* unknown nam \(did you mean name\?\)"):
        TrainingConfig.from_dict(values)
