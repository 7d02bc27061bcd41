"""Tested configurations of complete runs; ``recipe().with_changes(...)`` returns a variant."""

from typing import Any

from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.datasets.augmentation import AugmentationConfig, Noise, Rotate, Scale
from luna_pipeline.core.training.config import (
    ClippingConfig,
    LossConfig,
    MalignantRatio,
    NetworkConfig,
    NoduleRatio,
    OptimizerConfig,
    PlaceRatio,
    SchedulerConfig,
    TrainingConfig,
)

_HERE = "luna_pipeline.core.training.recipes"
_NAMES = (
    *("nodule_baseline", "malignancy_baseline", "demo", "demo_malignancy"),
    *("segmenter_baseline", "demo_segmenter"),
)
RECIPES: Registry[Any] = Registry("recipe", {name: f"{_HERE}:{name}" for name in _NAMES})


def nodule_baseline() -> TrainingConfig:
    """Return the recipe of the nodule classifier on all of LUNA16, with one nodule to five other candidates.

    With one to one, an epoch over 750,000 candidates would contain each of the thousand nodules hundreds of times and
    half of the others never. With one to five, five of six of the others occur once, and a batch of 64 still
    contains ten nodules.
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
    """Return the recipe of the malignancy classifier on all of LUNA16 with the readers' ratings.

    One malignant nodule to five benign ones and ten other candidates, as in the original project: without the others
    the network would classify every dense region as malignant.
    """
    return nodule_baseline().with_changes(
        name="malignancy_classifier",
        dataset="malignant_cutouts",
        network=NetworkConfig(block="dropout3d", dropout_rate=0.5),
        ratio=MalignantRatio(malignant=1, benign=5, non_nodule=10),
    )


def demo() -> TrainingConfig:
    """Return the nodule baseline for a few hundred cutouts, which trains in two minutes on a small machine.

    Small batches give many steps from few samples. One nodule to two others repeats the few nodules more often. Dropout
    and augmentation, which help only over many epochs, are off.
    """
    return nodule_baseline().with_changes(
        network=NetworkConfig(block="batch_norm"),
        augmentation=AugmentationConfig(),
        ratio=NoduleRatio(nodule=1, non_nodule=2),
        num_epochs=5,
        batch_size=8,
    )


def demo_malignancy() -> TrainingConfig:
    """Return the malignancy baseline for a few dozen nodules: one malignant, one benign and one other candidate."""
    return demo().with_changes(
        name="malignancy_classifier",
        dataset="malignant_cutouts",
        ratio=MalignantRatio(malignant=1, benign=1, non_nodule=1),
    )


def segmenter_baseline() -> TrainingConfig:
    """Return the recipe of the nodule segmenter on all of LUNA16.

    Half of the crops lie around nodules, so that half of the others show what looks like one. Slices of a crop are
    fewer than rows, because they are farther apart.
    """
    return TrainingConfig(
        name="nodule_segmenter",
        dataset="nodule_masks",
        model="nodule_segmentation",
        network=NetworkConfig(
            name="unet3d", n_blocks=4, conv_channels=16, dropout_rate=0.0, chunk_shape_irc=(32, 64, 64)
        ),
        loss=LossConfig(name="dice_focal"),
        optimizer=OptimizerConfig(name="adamw", learning_rate=2e-3, weight_decay=1e-4),
        scheduler=SchedulerConfig(name="cosine"),
        clipping=ClippingConfig(norm=5.0),
        augmentation=AugmentationConfig(
            scale=Scale(probability=0.5, share=0.1),
            rotate=Rotate(probability=0.5),
            noise=Noise(probability=0.5),
        ),
        ratio=PlaceRatio(),
        num_epochs=20,
        batch_size=8,
    )


def demo_segmenter() -> TrainingConfig:
    """Return the segmenter baseline for a few dozen small CTs, which trains within minutes on two cores.

    Rotation, scaling and noise, which help only over many epochs, are off. More of the crops lie around nodules: what a
    segmenter misses is lost, and a classifier scores its findings. Chosen on the phantom's validation fold.
    """
    ratio = PlaceRatio(nodule=3, look_alike=1, background=1)
    return segmenter_baseline().with_changes(augmentation=AugmentationConfig(), ratio=ratio, num_epochs=8)


def recipe_by_name(name: str) -> TrainingConfig:
    """Return the configuration of a recipe; an unknown name is a ValueError."""
    recipe: Any = RECIPES.get(name)()
    if not isinstance(recipe, TrainingConfig):
        msg = f"A recipe must be a function that returns a TrainingConfig, got a {type(recipe).__name__}"
        raise TypeError(f'{msg} (recipe "{name}"). Fix it, see docs/how_to/extend.md.')
    return recipe
