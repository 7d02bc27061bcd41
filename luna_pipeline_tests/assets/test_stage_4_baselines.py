"""The baseline assets on cutouts in a temporary home."""

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from luna_pipeline.assets.stage_4_baselines import BaselineConfig, feature_baseline, malignancy_feature_baseline
from luna_pipeline.core.datasets.splits import index_fingerprint
from luna_pipeline.core.storage.tables import check_table
from luna_pipeline.partitions import register_folds
from luna_pipeline.resources import CutoutCutting, LunaPaths
from luna_pipeline_tests.core.cutout_examples import write_examples


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Candidates and index of six series in three folds, with their cutouts."""
    monkeypatch.setenv("LUNA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LUNA_DATA_DIR", str(tmp_path / "data"))
    index, _ = write_examples(
        LunaPaths().settings.cutouts_dir, folds={f"1.{number}": number % 3 for number in range(6)}, shape_irc=(9, 9, 9)
    )
    rating = np.where(index["class"] == 1, np.arange(len(index)) % 2, np.nan)
    index["is_malignant"] = pd.array(rating, dtype="Int8").astype("boolean")
    candidates = index[["candidate_id"]].assign(x_mm=1.0, y_mm=2.0, z_mm=3.0)
    write_folds(index, patient_of=lambda uid: f"patient of {uid}")
    return {"cutting": CutoutCutting(paths=LunaPaths()), "candidates": candidates, "cutout_index": index}


def write_folds(index, *, patient_of) -> None:
    folds = index.groupby("series_instance_uid", observed=True)["fold"].first().reset_index()
    path = LunaPaths().settings.tables_dir / "folds.parquet"
    path.parent.mkdir(exist_ok=True)
    folds.assign(patient_hash=folds["series_instance_uid"].map(patient_of)).to_parquet(path)


def steps_of(asset, inputs, *, fold: int = 0, **config):
    instance = dg.DagsterInstance.ephemeral()
    register_folds(instance, [0, 1, 2])
    return asset(dg.build_asset_context(partition_key=str(fold), instance=instance), BaselineConfig(**config), **inputs)


def make(asset, inputs, **options) -> dg.Output:
    """The predictions and models of a fold, without a leak."""
    output, check = steps_of(asset, inputs, **options)
    assert (check.check_name, check.passed) == ("no_leak", True)
    return output


@pytest.mark.parametrize("asset", [feature_baseline, malignancy_feature_baseline])
def test_the_asset_scores_the_test_fold_and_says_what_it_goes_by(asset, inputs):
    output = make(asset, inputs, fold=2)
    predictions, models = output.value.predictions, output.value.models
    check_table("nodule_predictions", predictions)
    check_table("nodule_models", models)
    assert set(models["index_digest"]) == {index_fingerprint(inputs["cutout_index"])}
    assert models["model"].tolist() == ["logistic_regression", "gradient_boosting"]
    assert (models["fold"].tolist(), models["num_candidates"].tolist()) == ([2, 2], [12, 12])
    assert set(predictions["fold"]) == {2}
    assert set(predictions["model"]) == {"logistic_regression", "gradient_boosting"}
    metadata = output.metadata
    assert metadata["models_table"].records[1].data["model"] == "gradient_boosting"
    assert [metadata[f"num_{part}_candidates"].value for part in ("training", "validation", "test")] == [12, 12, 12]
    assert metadata["threshold_logistic_regression"].value == predictions["threshold"].iloc[0]
    important = {record.data["model"] for record in metadata["importances"].records}
    assert important == {"logistic_regression", "gradient_boosting"}
    assert "profile_12.5_to_15_mm 36" in metadata["candidates_without_a_feature"].value
    assert "research use only" in metadata["notes"].value


def test_the_labels_are_those_of_the_question(inputs):
    nodules, malignant = (
        make(asset, inputs).value.predictions for asset in (feature_baseline, malignancy_feature_baseline)
    )
    test = inputs["cutout_index"].query("fold == 0")
    is_malignant = test["is_malignant"].fillna(False).astype(int).tolist()
    assert nodules["class"].tolist() == test["class"].tolist() * 2
    assert malignant["class"].tolist() == is_malignant * 2


def test_the_classifiers_are_chosen_by_name(inputs):
    output = make(feature_baseline, inputs, fold=1, estimators=["logistic_regression"], validation_fold=2)
    assert set(output.value.predictions["model"]) == {"logistic_regression"}
    assert set(output.value.predictions["fold"]) == {1}


@pytest.mark.parametrize("asset", [feature_baseline, malignancy_feature_baseline])
def test_a_patient_in_training_and_test_is_told_before_anything_is_handed_out(asset, inputs):
    # Series 1.0 is in fold 0, 1.1 in fold 1.
    patients = {"1.0": "ab" * 32, "1.1": "ab" * 32}
    write_folds(inputs["cutout_index"], patient_of=lambda uid: patients.get(uid, f"patient of {uid}"))
    steps = steps_of(asset, inputs)
    check = next(steps)
    assert not check.passed
    assert "patient abababababab with series 1.0 of fold 0; logistic_regression" in check.description
    with pytest.raises(dg.Failure, match="must not be tested on patients that it has seen, got 1"):
        next(steps)
