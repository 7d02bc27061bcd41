"""A data source: what it must give so that everything after it runs unchanged."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from luna_pipeline.core.candidates.usable_rows import REJECTED_COLUMNS
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.sources.card import SourceCard
from luna_pipeline.core.sources.checked_tables import CheckedTable
from luna_pipeline.core.sources.faults import Fault
from luna_pipeline.core.sources.registry import DATA_SOURCES  # noqa: F401  # where extensions look for it
from luna_pipeline.core.sources.table_forms import TableForm

POINT = ("series_instance_uid", "x_mm", "y_mm", "z_mm")
NODULE_COLUMNS = (*POINT, "diameter_mm")
CANDIDATE_COLUMNS = (*POINT, "class")
RATED_COLUMNS = (*NODULE_COLUMNS, "is_malignant", "ratings")
RATINGS = (
    *("subtlety", "internal_structure", "calcification", "sphericity", "margin"),
    *("lobulation", "spiculation", "texture", "malignancy"),
)
READER_COLUMNS = (*NODULE_COLUMNS, "nodule", "reader", "longest_axial_mm", "volume_mm3", *RATINGS)
UNKNOWN_DIAMETER_MM = -1.0
"""Diameter of an excluded finding without one; LUNA16's evaluation takes 10 mm."""


def no_rows(columns: tuple[str, ...]) -> pd.DataFrame:
    """Return a table without rows."""
    return pd.DataFrame(columns=list(columns))


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceTables:
    """Tables of a data source, in LPS mm. A table that the source does not have is None.

    Attributes:
        annotations: Nodules: ``NODULE_COLUMNS``, diameters in mm.
        candidates: Positions to classify: ``CANDIDATE_COLUMNS``, class 1 = nodule. Optionally ``is_malignant``
            (boolean) of the candidate itself, for nodules without a diameter.
        excluded: Findings that are neither a hit nor a false positive: ``NODULE_COLUMNS``; ``UNKNOWN_DIAMETER_MM``
            where the diameter is not known.
        ratings: Nodules with labels: ``RATED_COLUMNS``; ``is_malignant`` is null where only ratings are known,
            ``ratings`` is a list of the readers' malignancy ratings, 1 to 5, empty where only the label is known.
        readers: One row per reader and nodule of 3 mm or more: ``READER_COLUMNS``; ``nodule`` numbers the nodules of
            a series, ``reader`` is -1 where the reader is not known, ratings are Int8, null where not rated.
        scans: Series that are evaluated; None for all in the catalogue.
        rejected: Rows that cannot be used, as written: ``REJECTED_COLUMNS``.
        notes: Lines for people; those that start with ``Warning: `` need attention.
    """

    annotations: pd.DataFrame | None = None
    candidates: pd.DataFrame | None = None
    excluded: pd.DataFrame | None = None
    ratings: pd.DataFrame | None = None
    readers: pd.DataFrame | None = None
    scans: list[str] | None = None
    rejected: pd.DataFrame = None  # type: ignore[assignment]  # set below
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rejected is None:
            object.__setattr__(self, "rejected", no_rows(REJECTED_COLUMNS))


class DataSource(ABC):
    """A data source, registered in ``DATA_SOURCES``. It reads one folder and writes nothing.

    Attributes:
        card: Licence, citation, checksums and traps.
        is_in_luna16_form: Whether the root itself holds the tables in LUNA16's form, so that none are written.
        table_forms: Its CSV tables with the rules of their values, for ``luna check_data``.
    """

    card: ClassVar[SourceCard]
    is_in_luna16_form: ClassVar[bool] = False
    table_forms: ClassVar[tuple[TableForm, ...]] = ()

    @abstractmethod
    def is_at(self, root: Path) -> bool:
        """Return whether a folder holds this source, by the names of its files alone."""

    def is_scan(self, path: Path) -> bool:
        """Return whether a volume file below the root is a CT; False for masks and the like."""
        return True

    def catalogue(
        self, root: Path, *, data_root: Path, patient_key: bytes, kept: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        """List the series below the root.

        Args:
            root: Folder of this source.
            data_root: The data root, equal to the root or above it; paths are relative to it.
            patient_key: Key of the patients' hashes.
            kept: An earlier catalogue.

        Returns:
            As from ``catalogue_series``.

        Raises:
            FileNotFoundError: If there is no CT.
        """
        return catalogue_series(data_root, folder=root, is_scan=self.is_scan, patient_key=patient_key, kept=kept)

    def patients(self, root: Path) -> Mapping[str, str]:
        """Return the patient id by series, where a table has it and the CT's file does not. Never shown or stored."""
        return {}

    @abstractmethod
    def tables(self, root: Path, catalogue: pd.DataFrame) -> SourceTables:
        """Read the tables of the source.

        Args:
            root: Folder of this source.
            catalogue: The rows of this source.

        Raises:
            FileNotFoundError: If a needed table is missing.
            ValueError: If a table is malformed: rule, value, file and line, and what to do.
        """

    def faults(self, tables: Mapping[str, CheckedTable]) -> Sequence[Fault]:
        """Return what is wrong between columns or tables, for ``luna check_data``.

        Args:
            tables: Those of ``table_forms`` that are there, by the first file name of their form.
        """
        return ()

    def readers(self, root: Path, catalogue: pd.DataFrame) -> pd.DataFrame | None:
        """Return the readers' nodules (``READER_COLUMNS``) of a source whose tables are in LUNA16's form.

        Other sources give them in ``tables``.
        """
        return None

    def folds(self, root: Path, catalogue: pd.DataFrame) -> Mapping[str, int]:
        """Return the source's own fold by series; empty if it has none. Folders ``subset<k>`` need no entry."""
        return {}
