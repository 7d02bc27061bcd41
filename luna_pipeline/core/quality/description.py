"""Description of a data set: tables, findings and agreement of readers, together."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from luna_pipeline.core.quality.agreement import nodules_by_readers, rating_agreement
from luna_pipeline.core.quality.findings import find_broken
from luna_pipeline.core.quality.limits import PROBLEM, WARNING
from luna_pipeline.core.quality.summary import (
    summary_of_diameters,
    summary_of_kinds,
    summary_of_numbers,
    table_of_limits,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """A described data set.

    Attributes:
        scans: A row a scan, as from ``describe_scans``.
        findings: Broken limits, as from ``find_broken``.
        nodules: Diameters of the annotated nodules in mm; empty where no tables are known.
        readers: A row a reader and nodule; None where the readers are not known.
        has_voxels: Whether voxels were read.
        is_synthetic: Whether the scans are a phantom.
    """

    scans: pd.DataFrame
    findings: pd.DataFrame
    nodules: pd.Series
    readers: pd.DataFrame | None
    has_voxels: bool
    is_synthetic: bool

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Tables of the description by name; those of readers only where they are known."""
        scans = self.scans.drop(columns=["histogram", "fingerprint", "content_digest"])
        tables = {
            "scans": scans,
            "numbers": summary_of_numbers(self.scans),
            "kinds": summary_of_kinds(self.scans),
            "limits": table_of_limits(self.findings, self.scans),
            "findings": self.findings,
        }
        if len(self.nodules):
            tables["diameters"] = summary_of_diameters(self.nodules)
        if self.readers is not None and len(self.readers):
            tables |= {"readers": nodules_by_readers(self.readers), "agreement": rating_agreement(self.readers)}
        return tables

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of scans, nodules, problems and warnings."""
        return {
            "num_scans": len(self.scans),
            "num_readable": int(self.scans["is_readable"].sum()),
            "num_nodules": len(self.nodules),
            "num_problems": int((self.findings["level"] == PROBLEM).sum()),
            "num_warnings": int((self.findings["level"] == WARNING).sum()),
        }


def describe(
    scans: pd.DataFrame,
    *,
    candidates: pd.DataFrame | None,
    readers: pd.DataFrame | None,
    has_voxels: bool,
    is_synthetic: bool,
) -> Description:
    """Return the description of a data set.

    Args:
        scans: As from ``describe_scans``.
        candidates: Candidate table; None for unknown.
        readers: Table of readers, ``READER_COLUMNS``; None for unknown.
        has_voxels: Whether the scans' voxels were read.
        is_synthetic: Whether the scans are a phantom.
    """
    nodules = pd.Series(dtype="float64")
    if candidates is not None:
        nodules = candidates.loc[candidates["source"] == "annotation", "diameter_mm"].reset_index(drop=True)
    return Description(
        scans=scans,
        findings=find_broken(scans),
        nodules=nodules,
        readers=readers,
        has_voxels=has_voxels,
        is_synthetic=is_synthetic,
    )


def as_json(description: Description) -> dict[str, Any]:
    """Return the counts and tables of a description as values of JSON; what is unknown is null."""
    tables: dict[str, Any] = {
        name: [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")]
        for name, table in description.tables.items()
    }
    head = {"intended_use": "research use only", "is_synthetic": description.is_synthetic}
    return {**head, "has_voxels": description.has_voxels, **description.counts, "tables": tables}


def _plain(value: Any) -> Any:
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
