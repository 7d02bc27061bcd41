"""Stage 0: archives of LUNA16, downloaded and unpacked into the data root."""

import dagster as dg
from pydantic import Field

from luna_pipeline.resources import LunaPaths

GROUP = "stage_0_archives"
OWNERS = ["team:pipeline"]
LUNA16_SUBSETS = dg.StaticPartitionsDefinition([f"subset{number}" for number in range(10)])


class DownloadConfig(dg.Config):
    """Server and form of the download."""

    base: str = Field(default="https://zenodo.org/api", description="Address of a server with Zenodo's interface.")
    checksums: str | None = Field(
        default=None, description="File with lines `MD5 BYTES NAME` of another edition. Default: the published ones."
    )
    keep_archives: bool = Field(default=False, description="Keep the archive in the folder after it was unpacked.")
    tables: bool = Field(default=True, description="Download the tables that are missing, too.")
    connections: int = Field(default=4, ge=1, le=16, description="Number of requests at the same time.")


@dg.asset(
    # Ten subsets at once would open forty connections to one server.
    pool="disk",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "zip"},
    code_version="1",
    partitions_def=LUNA16_SUBSETS,
)
def luna16_archives(
    context: dg.AssetExecutionContext, config: DownloadConfig, paths: LunaPaths
) -> dg.MaterializeResult[None]:
    """CTs of a subset of LUNA16 and the tables, from Zenodo: 6.6 GB packed and 12 GB unpacked a subset.

    Source: https://zenodo.org/records/3723295 and 4121926. Form: MetaImage in folders subset0 to subset9 of the data
    root, MD5 of the archive and CRC-32 of each file compared. A run that was killed continues where it ended.
    """
    from luna_pipeline.launchers.downloads import download_partition

    result = download_partition(
        paths.settings,
        context.partition_key,
        base=config.base,
        checksums=config.checksums,
        keeps_archives=config.keep_archives,
        has_tables=config.tables,
        num_connections=config.connections,
        report=context.log.info,
    )
    return dg.MaterializeResult(
        metadata={
            "num_bytes": result.num_bytes,
            "num_downloaded": result.num_downloaded,
            "num_members": result.num_members,
            "num_unpacked_bytes": result.num_unpacked_bytes,
            "md5": result.md5,
            "seconds": round(result.seconds, 2),
        },
        data_version=dg.DataVersion(result.md5),
    )
