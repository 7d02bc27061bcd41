"""Data and launcher of segmentation: places in whole CTs, of an installation's tables."""

from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from luna_pipeline.core.datasets.mask_places import find_places, split_places
from luna_pipeline.core.datasets.masks import CropSource
from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.datasets.volumes import CtVolumes
from luna_pipeline.core.networks.luna import context_slices_of
from luna_pipeline.core.training.building import initial_network
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.launchers.training.classifier import LunaClassificationLauncher

if TYPE_CHECKING:
    from luna_pipeline.settings import Settings


class LunaSegmentationLauncher(LunaClassificationLauncher):
    """Trains segmenters; ``index`` and ``store`` of ``fit`` are those of ``segmentation_data``."""

    recipe: ClassVar[str] = "segmenter_baseline"

    def parts(
        self, config: TrainingConfig, index: pd.DataFrame, split: TrainingSplit
    ) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Return the places of training, and of validation (None without a validation fold)."""
        return split_places(index, split)


def segmentation_data(settings: "Settings", config: TrainingConfig) -> tuple[pd.DataFrame, CropSource]:
    """Return the places of an installation's data (``find_places``), and the source of their crops.

    Raises:
        FileNotFoundError: If a table is missing.
        ValueError: If no series has a fold and a readable CT.
    """
    volumes = CtVolumes.of_catalogue(
        read_table(settings, "ct_series"), data_root=settings.data_dir, cache_dir=settings.cache_dir
    )
    shape_irc = config.network.chunk_shape_irc
    places = find_places(
        read_table(settings, "candidates"), read_table(settings, "folds"), volumes, tile_shape_irc=shape_irc
    )
    source = CropSource(
        volumes=volumes,
        shape_irc=shape_irc,
        context_slices=context_slices_of(initial_network(config)),
        seed=config.seed,
    )
    return places, source
