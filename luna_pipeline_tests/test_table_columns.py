"""Columns of the tables in Dagster's catalogue: described, typed, with their rules and where they come from."""

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.evaluation.detection import DETECTION_COLUMNS
from luna_pipeline.core.storage.columns import COLUMNS, describe_column
from luna_pipeline.core.storage.tables import TABLES
from luna_pipeline.definitions import defs
from luna_pipeline.table_columns import _CARRIED, _COMPUTED, column_lineage, column_schema, shown_table
from luna_pipeline.tuning.table import STUDY_COLUMNS


def test_every_column_that_a_schema_or_a_report_names_is_described():
    named = {str(column) for schema in TABLES.values() for column in schema.columns}
    assert [name for name in (*named, *DETECTION_COLUMNS, *STUDY_COLUMNS) if describe_column(name) is None] == []


def test_columns_of_a_family_are_described_by_their_name():
    assert describe_column("sensitivity_at_0.125") == "Sensitivity at 0.125 false positives per scan."
    assert describe_column("cpm_lower") == "cpm: lower end of its 95 % interval (bootstrap)."
    assert describe_column("scheduler.gamma") == "Tried value of `scheduler.gamma` of the configuration."
    assert describe_column("whatever") is None


def test_names_in_millimetres_seconds_and_hu_say_so_in_words():
    for ending, words in {"_mm": ("mm",), "_hu": ("HU",), "_seconds": ("Seconds",), "_deg": ("degrees",)}.items():
        for name, text in COLUMNS.items():
            assert not name.endswith(ending) or any(word in text for word in words), name


def test_a_schema_has_types_for_people_and_the_rules_of_the_table():
    table = pd.DataFrame({"series_instance_uid": ["1.2"], "fold": [0], "rule": ["subset"], "size_irc": [np.zeros(3)]})
    by_name = {column.name: column for column in column_schema("folds", table).columns}
    assert {name: column.type for name, column in by_name.items()} == {
        "series_instance_uid": "string",
        "fold": "int64",
        "rule": "string",
        "size_irc": "list",
    }
    assert by_name["fold"].constraints.other == ["at least 0"]
    assert not by_name["fold"].constraints.nullable
    assert by_name["size_irc"].description == "Size in voxels: slices, rows, columns."


@pytest.mark.parametrize(
    ("asset", "column", "sources"),
    [
        ("candidates", "x_mm", [("annotations", "coordX"), ("candidates_v2", "coordX")]),
        ("cutout_index", "fold", [("folds", "fold")]),
        ("leaderboard", "auc", [("nodule_report", "auc")]),
        ("malignancy_report", "auc", [("malignancy_predictions", "probability"), ("malignancy_predictions", "class")]),
        ("malignancy_predictions", "model", [("malignancy_feature_baseline", "model")]),
        ("malignancy_feature_baseline", "fold", [("cutout_index", "fold")]),
    ],
)
def test_a_column_is_traced_to_the_columns_it_is_made_from(asset, column, sources):
    lineage = column_lineage(asset, [column])
    found = {(dep.asset_key.to_user_string(), dep.column_name) for dep in lineage.deps_by_column[column]}
    assert found == set(sources)
    assert column_lineage("rejected", ["line"]) is None


def test_columns_come_only_from_assets_that_are_upstream():
    graph = defs.resolve_asset_graph()
    for asset in {*_CARRIED, *_COMPUTED}:
        stated = {*_CARRIED.get(asset, {}), *(name for _, of in _COMPUTED.get(asset, []) for name in of)}
        upstream = {key.to_user_string() for key in graph.get_ancestor_asset_keys(dg.AssetKey(asset))}
        assert stated <= upstream, asset


def test_a_small_table_is_shown_in_full_with_empty_cells_for_missing_values():
    shown = shown_table(pd.DataFrame({"model": ["a", None], "auc": [0.123456, float("nan")], "n": [3, 4]}))
    assert [dict(record.data) for record in shown.records] == [
        {"model": "a", "auc": "0.1235", "n": "3"},
        {"model": "", "auc": "", "n": "4"},
    ]
    assert shown.schema.columns[1].description == "Area under the ROC curve, 0 to 1."
