"""The pages of the reference are complete: every command, key, column, check and automation has its meaning."""

import ast
import json

import pytest

from docs_tools.build import ROOT
from docs_tools.markdown import plain, table
from docs_tools.reference import api, assets, automations, commands, configuration, configured, tables
from luna_pipeline.cli import cli
from luna_pipeline.core.storage.columns import describe_column
from luna_pipeline.core.storage.tables import TABLES
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.definitions import defs


def test_markdown_of_cells_and_docstrings():
    assert table(("a",), [("x | y\nz",)]) == ["| a |", "| --- |", "| x \\| y z |", ""]
    assert plain("One\n  line with ``code``.\n\nTwo.") == "One line with `code`.\n\nTwo."


def test_every_command_and_option_stands_on_the_page():
    page = commands.page()
    for name, command in cli.commands.items():
        assert f"### luna {name}\n" in page
        shown = [it for it in command.params if not getattr(it, "hidden", False)]
        assert all(option in page for it in shown for option in it.opts if option.startswith("-"))
    assert "Default: varied, as in LUNA16. | D,H,W |" in page


def test_every_key_of_a_configuration_has_a_meaning():
    ratios = [it for values in configuration.ratio_values().values() for it in values]
    values = [*configuration.training_values(), *ratios, *configuration.diagnosis_values()]
    values += configuration.service_values()
    assert [it.place for it in values if not it.meaning] == []
    keys = [(names[0], key, it.description) for names, own in configuration.configured_ops() for key, it in own.items()]
    assert len(keys) > 50
    assert [it for it in keys if not it[2]] == []


def test_ranges_are_those_of_the_checks():
    values = {it.place: it for it in configuration.training_values()}
    assert values["network.dropout_rate"].allowed == "≥ 0 and < 1"
    assert values["augmentation.rotate.degrees"].allowed == "≥ 0 and ≤ 180"
    assert values["clipping.norm"].allowed == "> 0"
    assert values["num_epochs"].row() == (
        "`num_epochs`",
        "Epochs; each draws as many samples as training has candidates.",
        "`10`",
        "integer, ≥ 1",
    )
    # Every place is a key that can be changed.
    flat = TrainingConfig().flat()
    assert {place for place in values} == {place for place in flat if not place.startswith("ratio.")}
    # The checks work again.
    with pytest.raises(ValueError, match="dropout_rate"):
        TrainingConfig().with_changes({"network.dropout_rate": 2.0})


def test_recipes_show_where_they_differ():
    page = configuration.page()
    demo = page[page.index("#### demo\n") : page.index("#### demo_malignancy")]
    assert "| `num_epochs` | `5` | `10` |" in demo
    assert "| `num_epochs` |" not in page[page.index("#### nodule_baseline") : page.index("#### malignancy_baseline")]
    assert "| `ratio.malignant` | `1` |  |" in page


@pytest.mark.parametrize(
    ("hint", "kind"), [(int | None, "integer or none"), (tuple[int, int], "2 of integer"), (bool, "true or false")]
)
def test_types_are_told_in_words(hint: object, kind: str):
    assert configured.kind_of(hint) == kind


def test_every_asset_and_check_says_what_it_is_and_what_to_do():
    graph, page = assets.graph(), assets.page()
    assert all(
        f"### {key.to_user_string()}\n" in page and graph.get(key).description for key in graph.get_all_asset_keys()
    )
    for key in graph.asset_check_keys:
        judged, failed, cure = plain(graph.get(key).description).partition("If it fails: ")
        assert all((judged, failed, cure)), key.name
        assert f"| `{key.name}` |" in page
    assert "| `rejected_rows_are_few` | Fewer than 1 %" in page
    assert "Made by: job `cut`" in page


def test_every_automation_and_job_stands_on_the_page():
    page, repository = automations.page(), defs.get_repository_def()
    assert {it.name for it in repository.sensor_defs} == set(automations.WAKES)
    names = [it.name for it in [*repository.sensor_defs, *repository.schedule_defs]]
    assert all(f"| `{name}` |" in page for name in [*names, "cut", "evaluate"])
    assert "| Every night: re-cuts everything outdated. | `0 3 * * *` | off | job `recut_changed` |" in page


def test_every_column_and_member_has_a_meaning():
    page = tables.page()
    columns = [(name, column) for name, schema in TABLES.items() for column in schema.columns]
    assert [it for it in columns if not describe_column(it[1])] == []
    assert "| `probability` | Score of the candidate, 0 to 1. | float64 | 0 to 1 |" in page
    assert "| int8 | one of `0`, `1` |" in page
    for name in ("nodules", "diagnosis"):
        schema = json.loads((tables._SCHEMAS / f"{name}.schema.json").read_text())
        parts = [part.get("properties", {}) for part in [schema, *schema["$defs"].values()]]
        assert [row[0] for part in parts for row in tables.rows_of(part) if not row[2]] == []


def test_every_name_of_the_api_is_defined_where_the_page_says():
    for _, _, names in api.TOPICS:
        for name in names:
            module, _, attribute = name.rpartition(".")
            tree = ast.parse((ROOT / "luna_pipeline" / f"{module.replace('.', '/')}.py").read_text())
            found = [it for it in tree.body if getattr(it, "name", "") == attribute]
            assert len(found) == 1, name
            assert ast.get_docstring(found[0]), name
