"""What has to be made again: tables of other inputs, and series that would be cut again."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import dagster as dg

from luna_pipeline.core.storage.files import exists, folder_digest, status_of
from luna_pipeline.launchers.data_sources import outdated_tables
from luna_pipeline.resources import CutoutCutting, LunaPaths

if TYPE_CHECKING:
    import pandas as pd


def inputs_digest(paths: LunaPaths) -> str:
    """Return the digest of the inputs, as ``ct_series`` and ``candidates`` record it."""
    return folder_digest(paths.settings.data_dir, by_content=".csv")


def recorded_digests(instance: dg.DagsterInstance) -> set[str | None]:
    """Return the recorded digests of catalogue and candidate table; a single one if their inputs were the same."""
    events = [instance.get_latest_materialization_event(dg.AssetKey(name)) for name in ("ct_series", "candidates")]
    made = [event.asset_materialization if event is not None else None for event in events]
    entries = [one.metadata.get("inputs_digest") if one is not None else None for one in made]
    return {str(entry.value) if entry is not None else None for entry in entries}


def work_left(cutting: CutoutCutting, paths: LunaPaths, *, except_for: Collection[str] = ()) -> str | None:
    """Return why cutouts must be cut although no input changed (lost or damaged files, other parameters); else None.

    Series in ``except_for`` are not compared.
    """
    if not exists(paths.settings.tables_dir / "candidates.parquet"):
        return "the candidate table was never made"
    if reason := outdated_tables(paths.settings):
        return reason
    stale = outdated_series(cutting)
    stale = stale[~stale["series_instance_uid"].isin(list(except_for))]
    if not stale.empty:
        return f"{len(stale)} series are {', '.join(sorted(set(stale['state'])))}"
    return None if is_indexed(cutting, paths) else "the cutouts are newer than their index"


def outdated_series(cutting: CutoutCutting) -> "pd.DataFrame":
    """Return the rows of the plan for series that would be cut again, see ``CtCutoutService.plan``."""
    plan = cutting.service().plan()
    return plan[plan["state"] != "current"]


def is_indexed(cutting: CutoutCutting, paths: LunaPaths) -> bool:
    """Return whether the index is not older than any cutout file."""
    newest = max((status.modified_seconds for status in cutting.store.listing().values()), default=0.0)
    index = paths.settings.tables_dir / "cutout_index.parquet"
    return exists(index) and status_of(index).modified_seconds >= newest
