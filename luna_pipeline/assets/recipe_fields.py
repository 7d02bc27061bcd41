"""Fields of the launchpad that a recipe decides: enums of names, and descriptions that say the value of each recipe."""

from functools import partial
from typing import Any

import pydantic

from luna_pipeline.choices import names_of, one_of
from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.networks.config import LOSSES, NETWORKS
from luna_pipeline.core.training.parts import OPTIMIZERS, SCHEDULERS
from luna_pipeline.core.training.recipes import RECIPES, recipe_by_name
from luna_pipeline.options import config_class

# Field: its place in the configuration, the registry of its names, what it is.
PARTS: dict[str, tuple[str, Registry[Any], str]] = {
    "network": ("network.name", NETWORKS, "Architecture of the network."),
    "loss": ("loss.name", LOSSES, "Loss that training minimises."),
    "optimizer": ("optimizer.name", OPTIMIZERS, "Optimizer of the weights."),
    "scheduler": ("scheduler.name", SCHEDULERS, "How the learning rate changes over the epochs."),
}
_PLACES = {"epochs": "num_epochs", "batch_size": "batch_size", "seed": "seed"}
OF_RECIPE = "recipe"
"""Word for the recipe's value."""
_DEFAULT = "Default: the recipe's"


def recipe_config(declared: type, *, asset: str, recipe: str, has_parts: bool = True) -> Any:
    """Return a Dagster config class with the fields of a dataclass of options, and those that a recipe decides.

    Args:
        declared: The options, see ``luna_pipeline.options``.
        asset: Name of the trained model; its recipes bear it.
        recipe: Default of the field `recipe`.
        has_parts: Whether to add a field for each of ``PARTS``.
    """
    # Also loads the extensions, whose recipes are offered for every model.
    names_of(RECIPES)
    own = [name for name in RECIPES.names() if not RECIPES.is_own(name) and recipe_by_name(name).name == asset]
    words = [*own, *filter(RECIPES.is_own, RECIPES.names())]
    about = "Complete configuration of a training, by name."
    fields: dict[str, Any] = {"recipe": (one_of(words), pydantic.Field(default=recipe, description=about))}
    for name, (place, registry, text) in PARTS.items() if has_parts else ():
        description = _with_values(own, f"{text} {_DEFAULT}.", place)
        fields[name] = (names_of(registry, OF_RECIPE), pydantic.Field(default=OF_RECIPE, description=description))
    base = config_class(declared, describe=partial(_describe, own))
    return pydantic.create_model(f"{declared.__name__}Of_{asset}", __base__=base, **fields)


def _describe(recipes: list[str], name: str, description: str) -> str:
    return _with_values(recipes, description, _PLACES[name]) if name in _PLACES else description


def _with_values(recipes: list[str], description: str, place: str) -> str:
    """Return a description in which `Default: the recipe's.` is followed by the value of each recipe."""
    values = {name: recipe_by_name(name).flat()[place] for name in recipes}
    all_same = len(set(values.values())) == 1
    shown = values[recipes[0]] if all_same else ", ".join(f"{name} {value}" for name, value in values.items())
    return description.replace(f"{_DEFAULT}.", f"{_DEFAULT} ({shown}).")
