"""The page of assets and their checks."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from docs_tools.markdown import plain, table
from luna_pipeline.asset_links import JOB_OF
from luna_pipeline.definitions import defs

_KEYS = {
    "series_instance_uid": "one per CT series, by its uid; registered by the job `ingest`",
    "test_fold": "one per test fold, by its number; registered by the job `ingest`",
    "incoming_series": "one per CT in `LUNA_INCOMING_DIR`, by its uid; registered by the sensor `incoming_changed`",
}


def graph() -> Any:
    """Return the graph of assets and checks."""
    return defs.resolve_asset_graph()


def page() -> str:
    """Return the page, stage by stage."""
    assets = graph()
    lines = [
        "# Assets and checks",
        "",
        "Every asset on Dagster's page, in the order of the stages: what it holds, where it lies, what it is made "
        "from and which job makes it. Below each are its checks: what they judge, and what to do when one fails. A "
        "check that *blocks* stops everything downstream in the same run; others only warn.",
        "",
        "A check has one result an asset: Dagster's page shows the newest, also of an asset with partitions. Only "
        "`no_leak` has one result a test fold: it is a partitioned check, a preview feature of Dagster. `cutouts` has "
        "no check of its own: a series that cannot be cut is a failed partition with its reason. The check "
        "`cutouts_are_whole` of `cutout_index` judges the cutouts of each series, in one result for all, because the "
        "events of many series are stored together, and without results of checks.",
        "",
        "Paths are relative to `LUNA_HOME`. The columns of tables are listed in [tables and files](tables.md). "
        "Scores are for research use only.",
        "",
    ]
    stage = ""
    for node in sorted(assets.asset_nodes, key=lambda it: (it.group_name, it.key.to_user_string())):
        if node.group_name != stage:
            stage = node.group_name
            lines += [f"## {stage.replace('_', ' ').capitalize()}", ""]
        lines += _asset(node, assets)
    return "\n".join(lines)


def _asset(node: Any, assets: Any) -> Iterator[str]:
    name = node.key.to_user_string()
    yield f"### {name}"
    yield ""
    yield plain(node.description)
    yield ""
    job, started_by = JOB_OF.get(name, ("", ""))
    made = f"job `{job}`" + (f"; also started by the {started_by}" if started_by else "") if job else "not made here"
    parents = ", ".join(f"`{key.to_user_string()}`" for key in sorted(node.parent_keys)) or "nothing"
    yield f"- Made by: {made}."
    yield f"- Made from: {parents}."
    yield f"- Partitions: {_partitions(node.partitions_def)}."
    yield ""
    checks = sorted((assets.get(key) for key in assets.asset_check_keys if key.asset_key == node.key), key=_order)
    if checks:
        yield from table(("check", "what it judges", "blocks", "when it fails"), map(_check, checks))


def _order(check: Any) -> tuple[bool, str]:
    return not check.blocking, check.key.name


def _partitions(definition: Any) -> str:
    if definition is None:
        return "none"
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        return _KEYS[str(definition.name)]
    keys = definition.get_partition_keys()
    return f"{len(keys)}: `{keys[0]}` to `{keys[-1]}`"


def _check(check: Any) -> tuple[str, ...]:
    judged, _, cure = plain(check.description).partition("If it fails: ")
    return f"`{check.key.name}`", judged, "yes" if check.blocking else "no", cure
