"""Names of the data sources; their code is imported on first use, and pandas not before."""

from typing import Any

from luna_pipeline.core.config.registry import Registry

_HERE = "luna_pipeline.core.sources"
# Each is a class, a DataSource.
DATA_SOURCES: Registry[Any] = Registry(
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
