"""Cross-validation: current classifiers, pooled folds, and the names of versions."""

from dataclasses import replace

import pandas as pd
import pytest

from luna_pipeline.core.storage.files import write_bytes
from luna_pipeline.core.training.recipes import demo_malignancy, nodule_baseline
from luna_pipeline.launchers.cross_validation import (
    CurrentClassifier,
    chosen_folds,
    folds_with_classifier,
    pooled_folds,
    read_current,
    trained_folds,
)
from luna_pipeline.launchers.versions import fold_version, own_version, recipe_digest
from luna_pipeline.settings import Settings

ASSET = "nodule_classifier"
OLD = CurrentClassifier(
    asset=ASSET,
    test_fold=0,
    version="0.0.1-fold0",
    path="p",
    sha256="s",
    data_fingerprint="d",
    recipe_digest="recipe",
    index_digest="index",
    dagster_run_id="run",
    made_at="2026-01-01T00:00:00",
)
NEW = replace(OLD, test_fold=2, version="0.0.1-fold2", made_at="2026-01-02T00:00:00")


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Return the settings of a home whose data have three folds."""
    settings = Settings(data_dir=tmp_path / "data", home=tmp_path / "home", mlflow_tracking_uri="")
    write_table(settings, "cutout_index", pd.DataFrame({"fold": [2, 0, 1, 0]}))
    return settings


def write_table(settings: Settings, place: str, table: pd.DataFrame) -> None:
    path = settings.tables_dir / f"{place}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)


def test_a_version_names_its_fold_once():
    assert fold_version("0.0.1", 3) == fold_version("0.0.1-fold3", 3) == fold_version("0.0.1-fold2+4", 3)
    assert fold_version("0.0.1", 3) == "0.0.1-fold3"
    assert fold_version("0.0.1+1", 0) == "0.0.1+1-fold0"


def test_own_version_is_the_folds_where_it_is_complete(settings):
    assert own_version(settings, ASSET, "0.0.1", fold=2) == "0.0.1"
    write_bytes(settings.checkpoints_dir / ASSET / "0.0.1-fold2/best.pt", b"")
    assert own_version(settings, ASSET, "0.0.1", fold=2) == "0.0.1-fold2"
    assert own_version(settings, ASSET, "0.0.1-fold1", fold=2) == "0.0.1-fold2"
    assert own_version(settings, ASSET, "0.0.1", fold=1) == "0.0.1"


def test_own_version_is_the_newest_complete_build(settings):
    for build in ("0.0.1-fold2", "0.0.1-fold2+2", "0.0.1-fold2+10", "0.0.1-fold20"):
        write_bytes(settings.checkpoints_dir / ASSET / build / "best.pt", b"")
    write_bytes(settings.checkpoints_dir / ASSET / "0.0.1-fold2+11/last.pt", b"")
    assert own_version(settings, ASSET, "0.0.1", fold=2) == "0.0.1-fold2+10"


def test_a_recipe_is_the_same_for_each_fold_and_another_with_another_value():
    start = {"start.name": "nodule_classifier", "start.version": "0.0.1-fold1"}
    config = demo_malignancy().with_changes(start, version="0.0.1-fold1")
    same = config.with_changes({"start.version": "0.0.1-fold2"}, version="0.0.1-fold2+1")
    assert recipe_digest(config) == recipe_digest(same)
    assert recipe_digest(config) != recipe_digest(config.with_changes({"start.version": "0.0.2-fold1"}))
    assert recipe_digest(nodule_baseline()) == recipe_digest(nodule_baseline().with_changes(version="7"))
    assert recipe_digest(nodule_baseline()) != recipe_digest(nodule_baseline().with_changes(seed=7))


def test_folds_are_the_first_the_chosen_or_all(settings):
    assert chosen_folds(settings, [], all_folds=False) == [0]
    assert chosen_folds(settings, [2, 1, 2], all_folds=False) == [1, 2]
    assert chosen_folds(settings, [], all_folds=True) == [0, 1, 2]
    assert chosen_folds(settings, [2, 1], all_folds=True) == [1, 2]
    with pytest.raises(ValueError, match=r"A held-out fold must exist, got 7 of folds \[0, 1, 2\]"):
        chosen_folds(settings, [7], all_folds=False)
    write_table(settings, "cutout_index", pd.DataFrame({"fold": [0]}))
    with pytest.raises(ValueError, match=r"at least two folds, got \[0\]"):
        chosen_folds(settings, [], all_folds=True)


def test_what_counts_is_read_as_it_was_written(settings):
    with pytest.raises(FileNotFoundError, match=r"got no current_2.json .*`nodule_classifier` of fold 2 first"):
        read_current(settings, ASSET, 2)
    NEW.write(settings)
    assert read_current(settings, ASSET, 2) == NEW
    assert trained_folds(settings, ASSET) == [2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"recipe_digest": "other"}, "0.0.1-fold0 is of another recipe than 0.0.1-fold2"),
        ({"index_digest": "other"}, "0.0.1-fold0 was trained on another cutout index than 0.0.1-fold2"),
    ],
)
def test_pooled_is_what_is_like_the_newest(settings, change, reason):
    with pytest.raises(FileNotFoundError, match="must be trained before it is used, got none"):
        pooled_folds(settings, ASSET)
    NEW.write(settings)
    replace(OLD, **change).write(settings)
    pooled = pooled_folds(settings, ASSET)
    assert pooled.left_out == ({0: reason} if reason else {})
    assert (pooled.folds, pooled.title) == (([2], "fold 2 of 3") if reason else ([0, 2], "folds 0, 2 of 3"))


def test_a_classifier_of_a_fold_that_is_gone_is_left_out_even_if_it_is_the_newest(settings):
    gone = replace(NEW, test_fold=7, version="0.0.1-fold7", made_at="2026-01-03T00:00:00")
    gone.write(settings)
    with pytest.raises(FileNotFoundError, match=r"of a fold of the data, \[0, 1, 2\], got those of \[7\]"):
        pooled_folds(settings, ASSET)
    NEW.write(settings)
    pooled = pooled_folds(settings, ASSET)
    assert pooled.title == "fold 2 of 3"
    assert pooled.left_out == {7: "0.0.1-fold7 is of fold 7, which the data no longer have"}
    replace(gone, asset="malignancy_classifier", test_fold=1).write(settings)
    assert folds_with_classifier(settings) == {1, 2, 7}
