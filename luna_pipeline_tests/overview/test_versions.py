"""The list of trained versions."""

import math
import os

import pytest

from luna_pipeline.core.training.checkpoints import save_checkpoint
from luna_pipeline.core.training.recipes import demo, malignancy_baseline
from luna_pipeline.launchers.versions import fold_of_version
from luna_pipeline.overview.versions import recipe_in_words, version_rows
from luna_pipeline.settings import Settings
from luna_pipeline_tests.core.training.test_checkpoints import make_checkpoint


@pytest.mark.parametrize(("version", "fold"), [("0.0.1-fold3", 3), ("0.0.1-fold12+4", 12), ("0.0.1", None)])
def test_the_fold_of_a_version(version, fold):
    assert fold_of_version(version) == fold


def test_a_recipe_is_named_with_what_was_changed():
    assert recipe_in_words(demo().with_changes(version="1.2.3", seed=7)) == "demo"
    changed = demo().with_changes({"optimizer.learning_rate": 0.01}, num_epochs=2)
    assert recipe_in_words(changed) == "demo with optimizer.learning_rate=0.01, num_epochs=2"
    assert recipe_in_words(malignancy_baseline()) == "malignancy_baseline"
    other = demo().with_changes(
        {"optimizer.learning_rate": 0.01, "scheduler.gamma": 0.5, "network.conv_channels": 12},
        num_epochs=2,
        batch_size=16,
    )
    assert recipe_in_words(other) == "demo with 5 changes"


def test_versions_are_listed_the_newest_first_with_unfinished_and_damaged_ones(tmp_path):
    settings = Settings.from_environment({"LUNA_HOME": str(tmp_path)})
    folder = tmp_path / "checkpoints/nodule_classifier"
    for number, (version, kind) in enumerate({"0.0.1-fold0": "best", "0.0.1-fold0+1": "last", "0.0.2": "best"}.items()):
        (folder / version).mkdir(parents=True)
        path = folder / version / f"{kind}.pt"
        save_checkpoint(path, make_checkpoint(version=version, best_score=math.nan if number else 0.75))
        os.utime(path, (number * 3600, number * 3600))
    (folder / "0.0.2/best.pt").write_bytes(b"damaged")
    (folder / "0.0.3").mkdir()
    damaged, unfinished, complete = version_rows(settings)
    assert [row["version"] for row in (damaged, unfinished, complete)] == ["0.0.2", "0.0.1-fold0+1", "0.0.1-fold0"]
    assert damaged["recipe"].startswith("unreadable: The file must be a checkpoint")
    assert (unfinished["state"], unfinished["score"]) == ("unfinished", None)
    made_at = complete.pop("made_at")
    assert len(made_at) == 16
    assert complete == {
        "model": "nodule_classifier",
        "version": "0.0.1-fold0",
        "fold": 0,
        "recipe": "demo",
        "epochs": 2,
        "score": "AUC 0.7500",
        "state": "complete",
        "path": str(folder / "0.0.1-fold0/best.pt"),
    }
