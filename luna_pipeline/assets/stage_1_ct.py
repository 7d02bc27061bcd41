"""Stage 1: the catalogue of CT series."""

import time
from typing import Any

import dagster as dg
from pydantic import Field

from luna_pipeline.assets.data_versions import versioned
from luna_pipeline.choices import names_of
from luna_pipeline.core.sources.registry import DATA_SOURCES
from luna_pipeline.partitions import gone_series, register_series
from luna_pipeline.resources import LunaPaths

GROUP = "stage_1_ct"
OWNERS = ["team:pipeline"]
SourceName: Any = names_of(DATA_SOURCES)


class CatalogueConfig(dg.Config):
    """What is catalogued."""

    sources: list[SourceName] = Field(
        default=[],
        description="Data sources that are read; `luna list_sources` describes each. Default: those of LUNA_SOURCE, "
        "else those that lie in the data root.",
    )


@dg.asset(
    pool="disk", group_name=GROUP, owners=OWNERS, kinds={"python", "parquet"}, code_version="1", io_manager_key="tables"
)
def ct_series(context: dg.AssetExecutionContext, config: CatalogueConfig, paths: LunaPaths) -> dg.Output[Any]:
    """Catalogue of the CT series below the data root, one row per series.

    Source: headers of image files and DICOM folders. Form: uid, format, path relative to the data root, data source,
    size in voxels, spacing in mm, origin and direction (LPS), subset, keyed hash of the patient, fingerprint, readable
    or the reason why not. Registers each readable series as a partition; a series whose CT was removed stays registered
    until `luna prune`. Size: 888 rows for LUNA16.
    """
    from luna_pipeline.core.sources.combined import left_out_rows
    from luna_pipeline.core.storage.files import folder_digest
    from luna_pipeline.launchers.cutting import catalogue_of
    from luna_pipeline.launchers.data_sources import catalogued_sources, describe_sources
    from luna_pipeline.launchers.installation import cutout_store

    started = time.perf_counter()
    settings = paths.settings
    # The digest is taken first, so that a CT that arrives meanwhile counts as a change.
    inputs = folder_digest(settings.data_dir, by_content=".csv")
    catalogue, num_kept = catalogue_of(settings, config.sources)
    left_out, shared = left_out_rows(catalogue)
    readable = catalogue[catalogue["is_readable"]]
    register_series(context.instance, readable["series_instance_uid"])
    gone = gone_series(context.instance, catalogue, cutout_store(settings))
    lines = describe_sources(catalogued_sources(settings, catalogue))
    _log_series(context, catalogue, left_out, shared, gone)
    metadata: dict[str, Any] = {
        "num_series": len(readable),
        "data_sources": dg.MetadataValue.md("\n".join(f"- {line}" for line in lines)),
        "num_unreadable": len(left_out),
        "num_kept": num_kept,
        "num_gone": len(gone),
        "gone": dg.MetadataValue.json(gone),
        "num_bytes": int(readable["num_bytes"].sum()),
        "inputs_digest": inputs,
        "seconds": round(time.perf_counter() - started, 2),
        "unreadable": dg.MetadataValue.md(_as_list(left_out)),
    }
    return versioned(catalogue, metadata)


def _log_series(
    context: dg.AssetExecutionContext, catalogue: Any, left_out: Any, lines: list[str], gone: list[str]
) -> None:
    """Log lines about the data sources, unreadable CTs, notes on readable ones, and series without their CT."""
    from luna_pipeline.core.ct.catalogue import describe_notes

    for line in lines:
        context.log.info(line)
    for row in left_out.itertuples():
        context.log.warning("Left out %s: %s", row.path, row.reason)
    for line in describe_notes(catalogue):
        context.log.info(line)
    for uid in gone:
        context.log.warning("The CT of series %s is gone; its cutouts are kept until `luna prune`.", uid)


def _as_list(rows: Any) -> str:
    lines = [f"- `{row.path}`: {row.reason}" for row in rows.head(50).itertuples()]
    return "\n".join(lines) or "none"
