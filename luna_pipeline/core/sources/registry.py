"""Names of the data sources; their code is imported on first use, and pandas not before."""

from typing import TYPE_CHECKING

from luna_pipeline.core.config.registry import Registry

if TYPE_CHECKING:
    from luna_pipeline.core.sources.source import DataSource

_HERE = "luna_pipeline.core.sources"
DATA_SOURCES: "Registry[type[DataSource]]" = Registry(
    "data source",
    {
        "luna16": f"{_HERE}.luna16:Luna16",
        "lndb": f"{_HERE}.lndb:Lndb",
        "nodulemnist3d": f"{_HERE}.nodulemnist3d:NoduleMnist3d",
        "csv_and_folder": f"{_HERE}.csv_and_folder:CsvAndFolder",
        "luna25": f"{_HERE}.luna25:Luna25",
        "lidc_idri": f"{_HERE}.lidc_idri:LidcIdri",
    },
)
