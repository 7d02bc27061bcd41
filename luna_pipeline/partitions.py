"""Partitions: one a CT series, registered when the catalogue is made."""

from collections.abc import Iterable

import dagster as dg

CT_SERIES_NAME = "series_instance_uid"
CT_SERIES = dg.DynamicPartitionsDefinition(name=CT_SERIES_NAME)


def versions_by_series(instance: dg.DagsterInstance, asset: str, uids: Iterable[str]) -> dict[str, str]:
    """Return the data version of the newest materialization of each series' partition, where there is one."""
    wanted = set(uids)
    versions: dict[str, str] = {}
    cursor = None
    while True:
        page = instance.fetch_materializations(dg.AssetKey(asset), limit=1000, cursor=cursor)
        for record in page.records:
            event = record.asset_materialization
            if event and event.partition in wanted and event.partition not in versions:
                versions[event.partition] = (event.tags or {}).get("dagster/data_version", "")
        cursor = page.cursor
        if not page.has_more or len(versions) == len(wanted):
            return versions
