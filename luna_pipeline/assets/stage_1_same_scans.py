"""Stage 1: pairs of series that show the same scan, found by their voxels."""

import time
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from luna_pipeline.assets.data_versions import versioned
from luna_pipeline.assets.stage_1_ct import GROUP, OWNERS
from luna_pipeline.resources import LunaPaths
from luna_pipeline.table_columns import shown_table


class SameScansConfig(dg.Config):
    """When scans are compared; reading a data set of LUNA16's size once takes about an hour."""

    search: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether scans are compared. `auto`: with several data sources, or where it was done before.",
    )
    workers: int = Field(
        default=2,
        ge=1,
        description="Number of processes, each with up to four CTs in memory (2 GB for 512 x 512 x 500 voxels).",
    )


@dg.asset(
    pool="disk", group_name=GROUP, owners=OWNERS, kinds={"python", "parquet"}, code_version="1", io_manager_key="tables"
)
def same_scans(
    context: dg.AssetExecutionContext, config: SameScansConfig, paths: LunaPaths, ct_series: Any
) -> dg.Output[Any]:
    """Pairs of series that show the same scan: in another format or orientation, as a block, or resampled.

    Source: voxels of the CTs, each read once: its signature is kept by place and state of its files. Form: series a and
    b, their data sources, kind, share of equal voxels of the overlap, transform between the arrays; a row of kind `not
    compared` for a scan that cannot be read. Empty where scans were not searched. Folds hold same scans together, and
    leak checks count them as seen.
    """
    from luna_pipeline.launchers.same_scans import find_same_scans, is_search_due, no_same_scans

    started = time.perf_counter()
    is_searched = is_search_due(paths.settings, ct_series, config.search)
    result = (
        find_same_scans(paths.settings, ct_series, workers=config.workers, report=context.log.info)
        if is_searched
        else no_same_scans(ct_series)
    )
    for name, reason in result.failed.items():
        context.log.warning("Not compared: %s: %s", name, reason)
    metadata: dict[str, Any] = {
        "is_searched": is_searched,
        "num_pairs": len(result.table),
        "num_scans": result.num_scans,
        "num_read": result.num_read,
        "num_not_compared": len(result.failed),
        "kinds": dg.MetadataValue.json({str(kind): int(n) for kind, n in result.table["kind"].value_counts().items()}),
        "seconds": round(time.perf_counter() - started, 2),
        "preview": shown_table(result.table.head(20)),
    }
    return versioned(result.stored, metadata)
