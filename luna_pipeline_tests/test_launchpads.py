"""Launchpads: every field is described, names are chosen from a list, and the example of every job is valid."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from luna_pipeline.assets.recipe_fields import recipe_config
from luna_pipeline.choices import names_of
from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.training.recipes import RECIPES, demo
from luna_pipeline.definitions import defs
from luna_pipeline.jobs.definition import example_of
from luna_pipeline.options import TrainingOptions

CONFIG = Path(__file__).resolve().parents[1] / "config"
JOBS = {job.name: job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")}
OTHERS = {"real_training.yaml": "train_nodule_classifier", "real_evaluation.yaml": "evaluate"}


def config_fields(job: dg.JobDefinition) -> Iterator[tuple[str, dg.Field]]:
    """Yield each field of the project's ops, assets and resources with its place."""

    def walk(kind: Any, place: tuple[str, ...]) -> Iterator[tuple[str, dg.Field]]:
        for name, field in getattr(kind, "fields", {}).items():
            yield ".".join((*place, name)), field
            yield from walk(field.config_type, (*place, name))
        if hasattr(kind, "inner_type"):
            yield from walk(kind.inner_type, place)

    top = job.run_config_schema.config_type.fields
    for part in ("ops", "resources"):
        for place, field in walk(top[part].config_type, (part,)) if part in top else ():
            if ".config." in place and not place.startswith("resources.io_manager."):
                yield place, field


def enum_of(job: str, place: str) -> list[str]:
    kind: Any = dict(config_fields(JOBS[job]))[place].config_type
    while hasattr(kind, "inner_type"):
        kind = kind.inner_type
    return [value.config_value for value in kind.enum_values]


@pytest.mark.parametrize("name", JOBS)
def test_every_field_of_a_jobs_configuration_is_described(name):
    fields = dict(config_fields(JOBS[name]))
    assert [place for place, field in fields.items() if len((field.description or "").split()) < 3] == []


@pytest.mark.parametrize("name", JOBS)
def test_the_example_of_a_job_is_a_configuration_of_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LUNA_HOME", str(tmp_path))
    example = example_of(name)
    if example is None:
        assert [place for place, _ in config_fields(JOBS[name]) if place.startswith("ops.")] == []
        return
    assert JOBS[name].metadata["example"].value == example
    text = (CONFIG.parent / example).read_text()
    assert text.startswith("# ")
    assert dg.validate_run_config(JOBS[name], yaml.safe_load(text))


def test_every_file_of_examples_is_of_a_job(tmp_path, monkeypatch):
    monkeypatch.setenv("LUNA_HOME", str(tmp_path))
    examples = {Path(example).name for name in JOBS if (example := example_of(name))}
    assert {path.name for path in CONFIG.glob("*.yaml")} == examples | set(OTHERS) | {"serving.yaml"}
    for file, name in OTHERS.items():
        assert dg.validate_run_config(JOBS[name], yaml.safe_load((CONFIG / file).read_text()))


@pytest.mark.parametrize(
    ("job", "place", "words"),
    [
        ("train_nodule_classifier", "ops.nodule_classifier.config.recipe", ["nodule_baseline", "demo"]),
        ("train_nodule_segmenter", "ops.nodule_segmenter.config.recipe", ["segmenter_baseline", "demo_segmenter"]),
        ("train_nodule_classifier", "ops.nodule_classifier.config.optimizer", ["recipe", "adamw", "sgd"]),
        ("tune", "ops.tuning_study.config.metric", ["cpm", "auc"]),
        ("ingest", "ops.candidates.config.malignancy_policy", ["book", "mean", "median"]),
        ("diagnose", "ops.diagnose_series.config.recipe", ["default", "book"]),
    ],
)
def test_names_are_chosen_from_a_list(job, place, words):
    assert enum_of(job, place) == words


def test_a_part_of_an_extension_is_in_the_list_of_its_registry():
    registry: Registry[Any] = Registry("colour", {"red": "module:red"})
    registry.register("green")(object())

    class Painted(dg.Config):
        colour: names_of(registry, "none") = "none"

    words = Painted.to_fields_dict()["colour"].config_type.inner_type.enum_values
    assert [word.config_value for word in words] == ["none", "red", "green"]
    assert Painted(colour="registered later").colour == "registered later"


def test_an_extension_that_fails_does_not_close_the_pages(monkeypatch, tmp_path):
    monkeypatch.setenv("LUNA_EXTENSIONS", str(tmp_path / "missing.py"))
    with pytest.warns(UserWarning, match="An extension must be a Python file, got no file"):
        assert names_of(Registry("colour", {"red": "module:red"}))


def test_a_recipe_of_an_extension_is_offered_for_every_model():
    RECIPES.register("mine")(lambda: demo().with_changes(num_epochs=3))
    try:
        fields = recipe_config(TrainingOptions, asset="nodule_segmenter", recipe="mine").to_fields_dict()
    finally:
        RECIPES.forget("mine")
    words = [word.config_value for word in fields["recipe"].config_type.inner_type.enum_values]
    assert words == ["segmenter_baseline", "demo_segmenter", "mine"]


def test_a_default_of_the_recipe_is_described_with_its_value():
    fields = dict(config_fields(JOBS["train_nodule_classifier"]))
    place = "ops.nodule_classifier.config"
    assert fields[f"{place}.epochs"].description.endswith("Default: the recipe's (nodule_baseline 10, demo 5).")
    assert fields[f"{place}.loss"].description.endswith("Default: the recipe's (cross_entropy).")
    assert fields[f"{place}.loss"].default_value == "recipe"
