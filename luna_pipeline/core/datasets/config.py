"""The data sets that a configuration can name; naming one does not wait for torch."""

from typing import Any

from luna_pipeline.core.config.registry import Registry

DATASETS: Registry[Any] = Registry(
    "data set",
    {
        "cutouts": "luna_pipeline.core.datasets.cutouts:CutoutsDataset",
        "malignant_cutouts": "luna_pipeline.core.datasets.cutouts:MalignantCutoutsDataset",
    },
)
