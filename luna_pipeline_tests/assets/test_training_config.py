"""Dagster config of a training asset becomes the configuration of the run."""

import pytest

from luna_pipeline.assets.training_config import (
    AllNoduleFolds,
    MalignancyTrainingConfig,
    NoduleFolds,
    NoduleTrainingConfig,
)
from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.core.training.config import StartConfig
from luna_pipeline.core.training.recipes import demo, malignancy_baseline, nodule_baseline
from luna_pipeline.settings import Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings.from_environment({"LUNA_HOME": str(tmp_path / "home")})


def test_without_a_choice_it_is_the_recipe_of_the_asset():
    assert NoduleTrainingConfig().training_config(test_fold=3) == nodule_baseline().with_changes(version="0.0.1-fold3")
    expected = malignancy_baseline().with_changes(version="0.0.1-fold0")
    assert MalignancyTrainingConfig().training_config(test_fold=0) == expected


def test_what_is_given_is_changed_and_nothing_else():
    config = NoduleTrainingConfig(recipe="demo", epochs=2, seed=7, changes={"network.dropout_rate": 0.4})
    expected = demo().with_changes({"network.dropout_rate": 0.4}, num_epochs=2, seed=7, version="0.0.1-fold1")
    assert config.training_config(test_fold=1) == expected


def test_parts_that_are_chosen_by_name_are_changed():
    config = NoduleTrainingConfig(recipe="demo", loss="focal", scheduler="cosine")
    expected = demo().with_changes({"loss.name": "focal", "scheduler.name": "cosine"}, version="0.0.1-fold1")
    assert config.training_config(test_fold=1) == expected


def test_a_whole_configuration_takes_the_recipes_place():
    whole = demo().with_changes({"loss.name": "focal", "optimizer.betas": [0.8, 0.9]}, version="3-fold1")
    config = NoduleTrainingConfig(configuration=whole.to_dict(), version=None)
    assert config.training_config(test_fold=1) == whole
    assert config.training_config(test_fold=2) == whole.with_changes(version="3-fold2")


def test_an_unknown_value_is_refused():
    with pytest.raises(ValueError, match="A configuration's value must be one of"):
        NoduleTrainingConfig(changes={"colour": 1}).training_config(test_fold=0)


def test_the_weights_to_begin_with_are_named_by_three_values_or_not_at_all(settings):
    assert NoduleTrainingConfig().start(settings, test_fold=0) is None
    config = MalignancyTrainingConfig(start_loader="mlflow", start_name="classification", start_version="0.0.1")
    expected = StartConfig(loader="mlflow", name="nodule_classifier", version="0.0.1")
    assert config.start(settings, test_fold=0) == expected


def test_weights_from_a_file_are_those_of_the_same_test_fold_where_there_are_any(settings):
    write_bytes(settings.checkpoints_dir / "nodule_classifier/0.0.1-fold2/best.pt", b"")
    config = MalignancyTrainingConfig(start_name="classification", start_version="0.0.1")
    versions = {fold: config.start(settings, test_fold=fold).version for fold in (1, 2)}
    assert versions == {1: "0.0.1", 2: "0.0.1-fold2"}


def test_the_choice_of_folds_is_no_part_of_a_folds_configuration():
    config = NoduleFolds(folds=[1, 2], recipe="demo", epochs=3)
    assert NoduleTrainingConfig(**config.of_each_fold()) == NoduleTrainingConfig(recipe="demo", epochs=3)
    assert (NoduleFolds().all_folds, AllNoduleFolds().all_folds) == (False, True)


def test_each_job_describes_its_own_default_folds():
    described = {kind: kind.model_fields["folds"].description for kind in (NoduleFolds, AllNoduleFolds)}
    assert "Default: the first fold." in described[NoduleFolds]
    assert "Default: every fold" in described[AllNoduleFolds]
    assert "Default: the first fold" not in described[AllNoduleFolds]
