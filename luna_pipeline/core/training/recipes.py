"""Complete configurations of runs that are known to work; a variant is ``replace(recipe(), ...)``."""

from collections.abc import Callable
from dataclasses import replace

from luna_pipeline.core.ranges import check_choice
from luna_pipeline.core.training.config import (
    NetworkConfig,
    NoduleRatio,
    OptimizerConfig,
    SchedulerConfig,
    TrainingConfig,
)


def nodule_baseline() -> TrainingConfig:
    """Nodule or not, on all of LUNA16.

    One nodule to five others: with one to one, an epoch over 750,000 candidates would show each of the
    thousand nodules hundreds of times and half of the others never; one to five shows every other candidate
    nearly once an epoch, while a batch of 64 still holds ten nodules.
    """
    return TrainingConfig(
        network=NetworkConfig(block="dropout3d", dropout_rate=0.2),
        optimizer=OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=1e-4),
        scheduler=SchedulerConfig(gamma=0.9),
        ratio=NoduleRatio(nodule=1, non_nodule=5),
        num_epochs=10,
        batch_size=64,
    )


def demo() -> TrainingConfig:
    """The baseline for a few hundred cutouts and two minutes of a small machine.

    Small batches make many steps of few samples, one nodule to two others shows the few nodules more often, and
    dropout, which needs many epochs to pay, is left out.
    """
    return replace(
        nodule_baseline(),
        network=NetworkConfig(block="batch_norm"),
        ratio=NoduleRatio(nodule=1, non_nodule=2),
        num_epochs=5,
        batch_size=8,
    )


RECIPES: dict[str, Callable[[], TrainingConfig]] = {recipe.__name__: recipe for recipe in (nodule_baseline, demo)}


def recipe_by_name(name: str) -> TrainingConfig:
    """Return the configuration that a recipe stands for.

    Raises:
        ValueError: If there is no recipe of that name.
    """
    check_choice("recipe", name, tuple(RECIPES))
    return RECIPES[name]()
