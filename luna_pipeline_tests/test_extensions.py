"""Your own parts: the examples of docs/how_to/extend.md run unchanged."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from luna_pipeline.cli import cli
from luna_pipeline.core.datasets.config import DATASETS
from luna_pipeline.core.networks.config import LOSSES, NETWORKS
from luna_pipeline.core.sources.registry import DATA_SOURCES
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.core.training.config import MODELS, TRAINERS
from luna_pipeline.extensions import load_extensions
from luna_pipeline.launchers.cutting import make_tables
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.handlers import HANDLERS
from luna_pipeline_tests.mlflow_fixtures import empty_database, quiet_mlflow, tracking_uri
from luna_pipeline_tests.small_installation import installed

__all__ = ["empty_database", "installed", "quiet_mlflow", "tracking_uri"]

PAGE = (Path(__file__).resolve().parents[1] / "docs/how_to/extend.md").read_text()
EXAMPLES = {choice: code for choice, code in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)}
REGISTRIES = {
    "network.name": NETWORKS,
    "loss.name": LOSSES,
    "dataset": DATASETS,
    "model": MODELS,
    "trainer": TRAINERS,
    "--handler": HANDLERS,
    "LUNA_SOURCE": DATA_SOURCES,
}


@pytest.fixture
def extend(tmp_path, monkeypatch):
    """Write an extension file and name it; its part is unregistered afterwards."""
    used = []

    def write(choice: str) -> Path:
        kind, name = choice.split("=")
        used.append((REGISTRIES[kind], name))
        path = tmp_path / f"{name}.py"
        path.write_text(EXAMPLES[choice])
        monkeypatch.setenv("LUNA_EXTENSIONS", str(path))
        return path

    yield write
    for registry, name in used:
        registry.forget(name)


def test_there_is_an_example_of_each_part_and_none_is_long():
    assert {choice.split("=")[0] for choice in EXAMPLES} == set(REGISTRIES)
    assert max(code.count("\n") for code in EXAMPLES.values()) < 30


@pytest.mark.parametrize("choice", [choice for choice in EXAMPLES if not choice.startswith("LUNA_SOURCE")])
def test_an_example_of_the_page_is_trained_with_by_its_name(extend, installed, choice):
    extend(choice)
    option = choice if choice.startswith("--") else f"--set={choice}"
    arguments = ["train_luna_classification", "0.0.1", "--no-mlflow", f"--config={installed / 'nodule.json'}", option]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    checkpoint = load_checkpoint(installed / "home/checkpoints/nodule_classifier/0.0.1/best.pt")
    kind, name = choice.split("=")
    assert checkpoint.config.flat().get(kind, name) == name
    if kind == "trainer":
        assert "Epoch 5 took" in done.output
    if kind == "--handler":
        lines = (installed / "home/tensorboard/nodule_classifier/0.0.1/scores.jsonl").read_text().splitlines()
        assert len(lines) == 10
        assert "loss" in json.loads(lines[0])["training"]


def test_the_data_source_of_the_page_gives_tables(extend, phantom_source, tmp_path, monkeypatch):
    (choice,) = (choice for choice in EXAMPLES if choice.startswith("LUNA_SOURCE"))
    extend(choice)
    root = tmp_path / "data"
    shutil.copytree(phantom_source, root)
    rows = (root / "annotations.csv").read_text().splitlines()[1:]
    (root / "nodules.txt").write_text("\n".join(rows))
    for name in root.glob("*.csv"):
        name.unlink()
    for variable, value in {"LUNA_DATA_DIR": root, "LUNA_HOME": tmp_path / "home"}.items():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.setenv(*choice.split("="))
    _, candidates, folds = make_tables(Settings.from_environment(), lambda line: None)
    assert (candidates["source"] == "annotation").sum() == len(rows)
    assert (candidates["source"] == "candidate").sum() > 0
    assert len(folds) == 6


def test_a_file_is_loaded_once(extend):
    path = extend("loss.name=smoothed")
    assert load_extensions() == load_extensions() == [path]
    assert "smoothed" in LOSSES.names()


@pytest.mark.parametrize(
    ("content", "error", "line"),
    [
        (None, FileNotFoundError, "An extension must be a Python file, got no file"),
        ("raise ZeroDivisionError('no')", ImportError, "An extension must run, got ZeroDivisionError: no"),
    ],
)
def test_a_file_that_is_missing_or_fails_is_named(tmp_path, content, error, line):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=line):
        load_extensions({"LUNA_EXTENSIONS": str(path)})


def test_a_checkpoint_whose_part_is_not_there_says_what_to_name(extend, installed):
    extend("network.name=two_layers")
    load_extensions()
    arguments = ["train_luna_classification", "0.0.1", "--no-mlflow", f"--config={installed / 'nodule.json'}"]
    CliRunner().invoke(cli, [*arguments, "--set=network.name=two_layers", "--epochs=1"], catch_exceptions=False)
    NETWORKS.forget("two_layers")
    with pytest.raises(ValueError, match=r"network must be one of luna, .* got 'two_layers'.*LUNA_EXTENSIONS"):
        load_checkpoint(installed / "home/checkpoints/nodule_classifier/0.0.1/best.pt")
