"""Training and prediction without cutout files: equal to the last bit to those with files."""

import json
import shutil

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from luna_pipeline.cli import cli
from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline_tests.small_installation import SMALL, assert_equal, configuration


def luna(*arguments: str) -> None:
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture
def data(tmp_path, monkeypatch):
    make_phantom(tmp_path / "data", num_series=6, num_subsets=3, seed=1, size_irc=(32, 48, 48))
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LUNA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text(json.dumps(configuration("nodule", SMALL["ratios"]["nodule"])))
    torch.set_num_threads(1)
    return tmp_path


def test_weights_scores_and_index_are_equal_without_cutout_files(data, monkeypatch):
    indexes, classifiers, submissions = [], [], []
    for cutouts, index_only in (("stored", []), ("on_the_fly", ["--index-only"])):
        home = data / cutouts
        monkeypatch.setenv("LUNA_HOME", str(home))
        luna("create_cutouts", "--chunk-shape=8,8,8", *index_only)
        indexes.append(pd.read_parquet(home / "tables/cutout_index.parquet"))
        options = [f"--config={data / 'config.json'}", "--epochs=1", "--batch-size=16", "--no-mlflow", "--workers=1"]
        luna("train_luna_classification", "0.0.1", *options, f"--cutouts={cutouts}")
        classifiers.append(load_checkpoint(home / "checkpoints/nodule_classifier/0.0.1/best.pt"))
        luna("predict", "classification", f"--out={home / 'scores.csv'}", f"--cutouts={cutouts}")
        submissions.append((home / "scores.csv").read_bytes())
    assert not list((data / "on_the_fly/cutouts").glob("*.npz"))
    pd.testing.assert_frame_equal(*indexes)
    assert_equal(*classifiers)
    assert classifiers[0].data_fingerprint == classifiers[1].data_fingerprint
    assert submissions[0] == submissions[1]


def test_stored_cutouts_are_not_needed_any_more_after_the_index_was_made(data, monkeypatch):
    monkeypatch.setenv("LUNA_HOME", str(data / "home"))
    luna("create_cutouts", "--chunk-shape=8,8,8")
    luna("create_cutouts", "--chunk-shape=8,8,8", "--index-only")
    shutil.rmtree(data / "home/cutouts")
    options = [f"--config={data / 'config.json'}", "--epochs=1", "--batch-size=16", "--no-mlflow"]
    luna("train_luna_classification", "0.0.1", *options, "--cutouts=on_the_fly")
    assert load_checkpoint(data / "home/checkpoints/nodule_classifier/0.0.1/best.pt").epoch == 1
    assert not (data / "home/cutouts").exists() or not list((data / "home/cutouts").glob("*.npz"))
