import pytest

from luna_pipeline.core.training.recipes import RECIPES, recipe_by_name


@pytest.mark.parametrize(("recipe", "got"), [(dict, "a dict"), (lambda: None, "a NoneType")])
def test_a_recipe_that_returns_no_configuration_is_refused_by_name(recipe, got):
    RECIPES.register("mine")(recipe)
    try:
        with pytest.raises(TypeError, match=rf'returns a TrainingConfig, got {got} \(recipe "mine"\)\. Fix it'):
            recipe_by_name("mine")
    finally:
        RECIPES.forget("mine")
