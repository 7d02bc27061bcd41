"""Registry of the data sets, which does not import torch."""

from typing import Any

from luna_pipeline.core.config.registry import Registry

DATASETS: Registry[Any] = Registry(
    "data set",
    {
        "cutouts": "luna_pipeline.core.datasets.cutouts:CutoutsDataset",
        "malignant_cutouts": "luna_pipeline.core.datasets.cutouts:MalignantCutoutsDataset",
        "nodule_masks": "luna_pipeline.core.datasets.masks:NoduleMasksDataset",
    },
)
