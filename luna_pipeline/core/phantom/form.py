"""In which form a phantom is written: the files of a data source, or LUNA16's tables beside DICOM folders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.phantom.findings import Findings
from luna_pipeline.core.phantom.series import PhantomSeries

_HERE = "luna_pipeline.core.phantom"
PHANTOM_FORMS: Registry[type["PhantomForm"]] = Registry(
    "form of a phantom",
    {
        "luna16": f"{_HERE}.luna16:Luna16Form",
        "lndb": f"{_HERE}.lndb:LndbForm",
        "nodulemnist3d": f"{_HERE}.nodulemnist3d:NoduleMnist3dForm",
        "csv_and_folder": f"{_HERE}.csv_and_folder:CsvAndFolderForm",
        "luna25": f"{_HERE}.luna25:Luna25Form",
        "lidc_idri": f"{_HERE}.lidc_idri:LidcIdriForm",
    },
)


@dataclass
class PhantomForm(ABC):
    """Writes the synthetic twin of a data source: its files and tables, with made-up content.

    Attributes:
        out: Folder of the data set.
        num_subsets: Number of folds, for sources that define folds.
        patterns: Glob patterns of everything that it writes at the top of the folder.
        findings: Findings by series, filled by ``write``.
    """

    patterns: ClassVar[tuple[str, ...]]
    out: Path
    num_subsets: int
    findings: dict[str, Findings] = field(default_factory=dict)

    def write(self, series: PhantomSeries) -> None:
        """Write the files of one series; called in the order of their numbers."""
        self.write_series(series)
        self.findings[series.config.series_instance_uid] = series.findings

    @abstractmethod
    def write_series(self, series: PhantomSeries) -> None:
        """Write the files of one series."""

    @abstractmethod
    def tables(self) -> Mapping[str, bytes]:
        """Return the content of each table by its path below ``out``, after all series were written."""
