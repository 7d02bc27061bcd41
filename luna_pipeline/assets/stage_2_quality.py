"""Stage 2: what a radiologist asks of the data set, as a table, plots and checks of stated limits."""

import time
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from luna_pipeline.assets import markdown
from luna_pipeline.assets.data_versions import versioned
from luna_pipeline.assets.stage_1_ct import OWNERS
from luna_pipeline.assets.stage_2_candidates import GROUP
from luna_pipeline.resources import LunaPaths
from luna_pipeline.table_columns import shown_table

if TYPE_CHECKING:
    from luna_pipeline.core.quality.description import Description

_MAX_FINDINGS = 30


class QualityConfig(dg.Config):
    """How much of the scans is read."""

    voxels: bool = Field(
        default=True,
        description="Read voxels, for HU, padding, noise and copies. Those of unchanged scans are read once.",
    )


@dg.asset(
    pool="disk",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version="1",
    io_manager_key="tables",
    deps=["candidates", "folds"],
)
def data_quality(
    context: dg.AssetExecutionContext, config: QualityConfig, paths: LunaPaths, ct_series: Any
) -> dg.Output[Any]:
    """Facts of each scan: geometry, technique, HU, noise, nodules. Research use only.

    Source: the catalogue, one DICOM header of each series, a sample of the voxels, the candidate table, the folds, and
    the readers' marks where the data source has them. Form: one row per series; see docs/how_to/describe_data.md for
    columns and limits. Size: 888 rows for LUNA16. The limits are checks of this asset; none blocks.
    """
    from luna_pipeline.core.quality.files import write_description
    from luna_pipeline.core.quality.findings import lines_of
    from luna_pipeline.launchers.describe_data import describe_data

    started = time.perf_counter()
    description = describe_data(
        paths.settings,
        ct_series,
        has_voxels=config.voxels,
        on_scan=lambda uid, number, total: context.log.debug("Read %s: %d of %d", uid, number, total),
        report=context.log.warning,
    )
    for line in lines_of(description.findings, description.scans):
        context.log.warning(line)
    page = write_description(paths.settings.local_home / "data_quality", description)
    metadata = _metadata(description) | {
        "page": dg.MetadataValue.path(page),
        "seconds": round(time.perf_counter() - started, 2),
    }
    return versioned(description.scans, metadata)


def _metadata(description: "Description") -> dict[str, Any]:
    from luna_pipeline.core.quality.plots import plots_of

    tables = description.tables
    shown = {name: table for name, table in tables.items() if name not in {"scans", "limits", "findings"}}
    findings = tables["findings"][["level", "text"]].head(_MAX_FINDINGS)
    return {
        **description.counts,
        "findings": shown_table(findings),
        **{name: shown_table(table) for name, table in shown.items()},
        **{
            f"plot_{name}": dg.MetadataValue.md(markdown.picture(png, f"{name}, research use only"))
            for name, png in plots_of(description).items()
        },
    }
