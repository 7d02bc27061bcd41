"""What the launchpad asks of a training asset becomes the configuration of the run, whole and unchanged."""

import pytest

from luna_pipeline.assets.training_config import MalignancyTrainingConfig, NoduleTrainingConfig
from luna_pipeline.core.training.config import StartConfig
from luna_pipeline.core.training.recipes import demo, malignancy_baseline, nodule_baseline


def test_without_a_choice_it_is_the_recipe_of_the_asset():
    assert NoduleTrainingConfig().training_config() == nodule_baseline()
    assert MalignancyTrainingConfig().training_config() == malignancy_baseline()


def test_what_is_given_is_changed_and_nothing_else():
    config = NoduleTrainingConfig(recipe="demo", epochs=2, seed=7, changes={"network.dropout_rate": 0.4})
    expected = demo().with_changes({"network.dropout_rate": 0.4}, num_epochs=2, seed=7)
    assert config.training_config() == expected


def test_a_whole_configuration_takes_the_recipes_place():
    whole = demo().with_changes({"loss.name": "focal", "optimizer.betas": [0.8, 0.9]}, version="3")
    config = NoduleTrainingConfig(configuration=whole.to_dict(), version=None)
    assert config.training_config() == whole


def test_an_unknown_value_is_refused():
    with pytest.raises(ValueError, match="A configuration's value must be one of"):
        NoduleTrainingConfig(changes={"colour": 1}).training_config()


def test_the_weights_to_begin_with_are_named_by_three_values_or_not_at_all():
    assert NoduleTrainingConfig().start() is None
    config = MalignancyTrainingConfig(start_loader="mlflow", start_name="classification", start_version="0.0.1")
    assert config.start() == StartConfig(loader="mlflow", name="classification", version="0.0.1")
