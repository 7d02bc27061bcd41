"""Description of the data root, for the command and the asset."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from luna_pipeline.core.storage.files import exists
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from luna_pipeline.core.quality.description import Description
    from luna_pipeline.core.quality.scans import OnScan

READERS_TABLE = "reader_nodules"
"""Table of the readers' marks, for data sources that have it."""
_WORKERS = 2


def describe_data(
    settings: Settings,
    catalogue: "pd.DataFrame",
    *,
    has_voxels: bool = True,
    on_scan: "OnScan | None" = None,
    report: Callable[[str], object] = lambda _: None,
) -> "Description":
    """Describe the scans of a catalogue with the tables that the installation has.

    Args:
        settings: Paths of the installation.
        catalogue: The scans.
        has_voxels: Whether to read voxels; those of unchanged scans are read once, and kept in ``LUNA_CACHE``.
        on_scan: Progress of reading voxels.
        report: Receives a line on each table that is missing.
    """
    from luna_pipeline.core.quality.description import describe
    from luna_pipeline.core.quality.kept_facts import KeptFacts
    from luna_pipeline.core.quality.scans import describe_scans

    candidates, folds = (_table(settings, name, report) for name in ("candidates", "folds"))
    readers = read_table(settings, READERS_TABLE) if _has(settings, READERS_TABLE) else None
    scans = describe_scans(
        catalogue,
        data_root=settings.data_dir,
        kept=KeptFacts(settings.cache_dir / "data_quality.json") if has_voxels else None,
        candidates=candidates,
        folds=folds,
        workers=_WORKERS,
        on_scan=on_scan,
    )
    return describe(
        scans, candidates=candidates, readers=readers, has_voxels=has_voxels, is_synthetic=settings.is_synthetic
    )


def _has(settings: Settings, name: str) -> bool:
    return exists(settings.tables_dir / f"{name}.parquet")


def _table(settings: Settings, name: str, report: Callable[[str], object]) -> "pd.DataFrame | None":
    if _has(settings, name):
        return read_table(settings, name)
    report(f"There is no table `{name}`: run `luna create_cutouts`, or materialize `{name}`, to describe it, too.")
    return None
