"""Complete configurations of runs that are known to work; a variant is ``recipe().with_changes(...)``."""

from typing import Any

from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.datasets.augmentation import AugmentationConfig
from luna_pipeline.core.training.config import (
    MalignantRatio,
    NetworkConfig,
    NoduleRatio,
    OptimizerConfig,
    SchedulerConfig,
    TrainingConfig,
)

_HERE = "luna_pipeline.core.training.recipes"
RECIPES: Registry[Any] = Registry(
    "recipe",
    {name: f"{_HERE}:{name}" for name in ("nodule_baseline", "malignancy_baseline", "demo", "demo_malignancy")},
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
        scheduler=SchedulerConfig(name="exponential", gamma=0.9),
        augmentation=AugmentationConfig.all_five(),
        ratio=NoduleRatio(nodule=1, non_nodule=5),
        num_epochs=10,
        batch_size=64,
    )


def malignancy_baseline() -> TrainingConfig:
    """Malignant or not, on all of LUNA16 with the readers' ratings.

    One malignant nodule to five benign ones and ten other candidates, as in the tutorial: the others keep the network
    from calling every density malignant.
    """
    return nodule_baseline().with_changes(
        name="malignancy_classifier",
        dataset="malignant_cutouts",
        network=NetworkConfig(block="dropout3d", dropout_rate=0.5),
        ratio=MalignantRatio(malignant=1, benign=5, non_nodule=10),
    )


def demo() -> TrainingConfig:
    """The nodule baseline for a few hundred cutouts and two minutes of a small machine.

    Small batches make many steps of few samples, one nodule to two others shows the few nodules more often, and
    dropout and the changes that cost time, which need many epochs to pay, are left out.
    """
    return nodule_baseline().with_changes(
        network=NetworkConfig(block="batch_norm"),
        augmentation=AugmentationConfig(),
        ratio=NoduleRatio(nodule=1, non_nodule=2),
        num_epochs=5,
        batch_size=8,
    )


def demo_malignancy() -> TrainingConfig:
    """The malignancy baseline for a few dozen nodules: one malignant nodule to one benign one and one other."""
    return demo().with_changes(
        name="malignancy_classifier",
        dataset="malignant_cutouts",
        ratio=MalignantRatio(malignant=1, benign=1, non_nodule=1),
    )


def recipe_by_name(name: str) -> TrainingConfig:
    """Return the configuration that a recipe stands for.

    Raises:
        ValueError: If there is no recipe of that name.
    """
    recipe: TrainingConfig = RECIPES.get(name)()
    return recipe
