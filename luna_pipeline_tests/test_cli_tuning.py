"""Tuning from the command line: both commands, and invalid studies, which are rejected in one line."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner

from luna_pipeline.cli import cli
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline_tests.mlflow_fixtures import empty_database, quiet_mlflow, tracking_uri
from luna_pipeline_tests.small_installation import installed, refused, weights_of

__all__ = ["empty_database", "installed", "quiet_mlflow", "tracking_uri"]


def test_a_search_ends_with_a_table_a_classifier_and_a_configuration_that_the_training_command_takes(installed):
    space = {"optimizer.learning_rate": {"choices": [0.003]}, "scheduler.gamma": {"choices": [0.5, 0.9]}}
    (installed / "space.json").write_text(json.dumps(space))
    index = pd.read_parquet(installed / "home/tables/cutout_index.parquet")
    positions = index[["candidate_id", "series_instance_uid"]].assign(x_mm=0.0, y_mm=0.0, z_mm=0.0)
    positions.to_parquet(installed / "home/tables/candidates.parquet")
    base = ["--set", "optimizer.learning_rate=0.00001", f"--config={installed}/malignant.json"]
    search = [f"--space={installed}/space.json", "--search=grid", "--scheduler=none", "--epochs=2"]
    where = ["--version=0.3.0", "--test-fold=0", "--validation-fold=1", f"--result={installed}/result.json"]
    done = CliRunner().invoke(
        cli, ["tune_luna_malignant_classification", *base, *search, *where], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    folder = installed / "home/tuning/malignancy_classifier/0.3.0-fold0"
    assert f"Wrote {folder}: 3 trials" in done.output
    assert "Research use only" in done.output
    result = json.loads((installed / "result.json").read_text())
    assert result["study"] == "malignancy_classifier 0.3.0-fold0"
    assert [trial["trial"] for trial in result["trials"]] == [0, 1, 2]
    assert list(pd.read_csv(folder / "trials.csv")["scheduler.gamma"]) == [0.9, 0.5, 0.9]
    tuned = weights_of(installed, "tuned_malignancy_classifier", "0.3.0-fold0")
    assert tuned.config.dataset == "malignant_cutouts"

    best = TrainingConfig.from_dict(json.loads((folder / "best.json").read_text()))
    again = ["train_luna_malignant_classification", "0.4.0", f"--config={folder}/best.json", "--no-mlflow"]
    assert CliRunner().invoke(cli, again, catch_exceptions=False).exit_code == 0
    assert weights_of(installed, "malignancy_classifier", "0.4.0").config == best.with_changes(version="0.4.0")


@pytest.mark.parametrize(
    ("arguments", "line", "status"),
    [
        (["--space", "{space}"], "A search space's place must be one of the configuration's values, got 'optim", 2),
        (["--space", "lerning"], "The search space must be one of learning, network, augmentation", 2),
        (["--space", "nowhere.json"], "A search space must be a name or a JSON file, got", 2),
        (["--search", "grid", "--space", "learning"], "A grid's places must have countable values", 2),
        (["--search", "grid", "--space", "small_grid", "--trials", "3"], "A grid must not be told its trials", 2),
        (["--set", "scheduler.name=plateau"], "A study's learning rate must not follow the validation score", 2),
        (["--recipe", "dmeo"], "--recipe: The recipe must be one of", 2),
        (["--set", "network.nam=x"], "Did you mean 'network.name'?", 2),
        (["--trials", "1"], "1 is not in the range x>=2", 2),
        (["--search", "bayes"], "'bayes' is not one of", 2),
        (["--test-fold", "7"], "A held-out fold must exist, got 7", 1),
        (["--ray-address", "ray://127.0.0.1:10001"], "A Ray cluster's address must be HOST:PORT of its head", 1),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_line_before_anything_starts(
    installed, monkeypatch, capsys, arguments, line, status
):
    (installed / "wrong.json").write_text(json.dumps({"optimizer.lr": {"uniform": [0.1, 0.2]}}))
    given = [argument.replace("{space}", f"{installed}/wrong.json") for argument in arguments]
    command = ["tune_luna_classification", f"--config={installed}/nodule.json", "--metric=auc", "--no-mlflow"]
    code, said = refused(monkeypatch, capsys, *command, *given)
    assert code == status
    assert line in said
    assert not list((installed / "home").glob("tuning/*/*/trials"))
    assert not list((installed / "home").glob("checkpoints/*"))
