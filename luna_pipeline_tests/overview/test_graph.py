"""The names of assets, checks and automations are those of Dagster's definitions."""

import dagster as dg

from luna_pipeline.definitions import defs
from luna_pipeline.overview.graph import ASSETS, AUTOMATIONS, CHECKS, CLASSIFIERS
from luna_pipeline.partitions import TEST_FOLD_NAME


def test_assets_and_their_partitions():
    graph = defs.resolve_asset_graph()
    known = {}
    for key in graph.materializable_asset_keys:
        partitions = graph.get(key).partitions_def
        if not isinstance(partitions, dg.StaticPartitionsDefinition):
            known[key.to_user_string()] = getattr(partitions, "name", "")
    assert known == ASSETS
    assert all(ASSETS[name] == TEST_FOLD_NAME for name in CLASSIFIERS)


def test_checks():
    keys = defs.resolve_asset_graph().asset_check_keys
    assert {(key.asset_key.to_user_string(), key.name) for key in keys} == {
        (asset, name) for asset, names in CHECKS.items() for name in names
    }


def test_automations_and_whether_they_are_on():
    given = [*(defs.sensors or ()), *(defs.schedules or ())]
    assert {one.name: one.default_status.value == "RUNNING" for one in given} == AUTOMATIONS
