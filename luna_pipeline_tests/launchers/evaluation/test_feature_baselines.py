"""Feature baselines: training, thresholds, test scores and errors."""

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.baselines.features import FEATURE_NAMES, features_of_index
from luna_pipeline.core.datasets.splits import TrainingSplit
from luna_pipeline.core.evaluation.report import binary_report, check_predictions
from luna_pipeline.core.metrics.decision import UNDECIDED, Decision
from luna_pipeline.core.storage.tables import TABLES
from luna_pipeline.launchers.evaluation.feature_baselines import FEATURE_BASELINES, fit_feature_baselines
from luna_pipeline.launchers.evaluation.fold_predictions import (
    FoldPredictions,
    check_same_test_fold,
    models_of_baselines,
)
from luna_pipeline.launchers.evaluation.scoring import labelled
from luna_pipeline_tests.core.cutout_examples import write_examples

SPLIT = TrainingSplit(test_fold=0, validation_fold=1)
FOLDS = {f"1.{number}": number % 4 for number in range(8)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight series in four folds; a third of the candidates are dense balls, every second of these is malignant."""
    index, store = write_examples(
        tmp_path_factory.mktemp("cutouts"), folds=FOLDS, num_per_series=12, shape_irc=(9, 9, 9)
    )
    is_nodule = index["class"] == 1
    rating = pd.Series(pd.NA, index=index.index, dtype="boolean")
    rating[is_nodule] = np.arange(is_nodule.sum()) % 2 == 0
    candidates = index[["candidate_id"]].iloc[::-1].assign(x_mm=1.0, y_mm=2.0, z_mm=3.0)
    index = index.assign(is_malignant=rating)
    # The last row of each series is an annotated centre, which no detector proposed.
    index["source"] = np.where(np.arange(len(index)) % 12 == 11, "annotation", "candidate")
    return {"index": index, "candidates": candidates, "store": store, "split": SPLIT}


@pytest.fixture(scope="module")
def fitted(data):
    return fit_feature_baselines(**data)


def noisy(data: dict, seed: int = 0) -> dict:
    """Return the data with a quarter of the labels flipped, so that no model is perfect."""
    index = data["index"].copy()
    turned = np.random.default_rng(seed).random(len(index)) < 0.25
    index["class"] = np.where(turned, 1 - index["class"], index["class"]).astype(np.int8)
    return {**data, "index": index}


def rows_of(data: dict, fold: int) -> pd.DataFrame:
    index = data["index"]
    return index[(index["fold"] == fold) & (index["source"] == "candidate")]


@pytest.mark.seed_defect(50)
def test_each_baseline_scores_every_candidate_of_the_test_fold_once_and_stands_in_the_report(data, fitted):
    check_predictions(fitted.predictions)
    TABLES["nodule_predictions"].validate(fitted.predictions)
    for _, rows in fitted.predictions.groupby("model"):
        assert rows["candidate_id"].tolist() == rows_of(data, 0)["candidate_id"].tolist()
    report = binary_report(fitted.predictions, num_bootstraps=0)
    assert report["model"].tolist() == list(FEATURE_BASELINES)
    assert report["auc"].tolist() == [1.0, 1.0]


@pytest.mark.seed_defect(49)
def test_decisions_are_made_by_the_validation_fold(data):
    data = noisy(data)
    validation = rows_of(data, 1)
    for baseline in fit_feature_baselines(**data).baselines:
        scores = baseline.model.score(features_of_index(validation, data["store"]).to_numpy())
        series = validation["series_instance_uid"].to_numpy()
        assert baseline.decision == Decision.of(validation["class"].to_numpy(), scores, series)
        assert baseline.decision.threshold != 0.5


@pytest.mark.seed_defect(49)
def test_labels_of_the_test_fold_change_neither_scores_nor_thresholds(data):
    index = data["index"]
    turned = index.assign(**{"class": index["class"].where(index["fold"] != 0, 1 - index["class"])})
    first, second = (fit_feature_baselines(**{**data, "index": table}).predictions for table in (index, turned))
    pd.testing.assert_frame_equal(first.drop(columns="class"), second.drop(columns="class"))
    assert (first["class"] != second["class"]).all()


@pytest.mark.seed_defect(1, 49)
def test_labels_of_the_validation_fold_change_decisions_and_no_score(data):
    data = noisy(data)
    index = data["index"]
    turned = index.assign(**{"class": index["class"].where(index["fold"] != 1, 1 - index["class"])})
    first, second = (fit_feature_baselines(**{**data, "index": table}).predictions for table in (index, turned))
    np.testing.assert_array_equal(first["probability"], second["probability"])
    for column in ("threshold", "calibrated"):
        assert (first[column] != second[column]).all()


def test_without_a_validation_fold_nothing_is_decided_and_importances_are_unknown(data):
    fitted = fit_feature_baselines(**{**data, "split": TrainingSplit(test_fold=0, validation_fold=None)})
    assert {baseline.decision for baseline in fitted.baselines} == {UNDECIDED}
    assert set(fitted.predictions["threshold"]) == {0.5}
    assert fitted.predictions["calibrated"].isna().all()
    assert fitted.importances["permutation_importance"].isna().all()
    assert fitted.num_candidates == {"training": 66, "validation": 0, "test": 22}


def test_two_runs_are_equal(data, fitted):
    again = fit_feature_baselines(**data)
    pd.testing.assert_frame_equal(again.predictions, fitted.predictions)
    pd.testing.assert_frame_equal(again.importances, fitted.importances)


def test_what_was_used_is_counted(data, fitted):
    assert fitted.num_candidates == {"training": 44, "validation": 22, "test": 22}
    # Cutouts of 9 voxels of 1 mm have none at 12.5 mm; cutouts without a ball have no tissue.
    assert fitted.num_undefined["profile_12.5_to_15_mm"] == 88
    num_balls = sum(rows_of(data, fold)["class"].sum() for fold in range(4))
    assert fitted.num_undefined["blob_offset_mm"] == 88 - num_balls
    assert len(fitted.importances) == 2 * len(FEATURE_NAMES)
    assert fitted.candidates_per_second > 0


def test_progress_ends_with_all_candidates(data):
    told = []
    fit_feature_baselines(**data, estimators=["logistic_regression"], on_progress=lambda *counts: told.append(counts))
    assert told[-1] == (88, 88)
    assert len(told) == len(FOLDS)


def test_malignancy_has_its_own_labels_and_leaves_unrated_nodules_out(data):
    index = data["index"].copy()
    unrated = index.index[(index["class"] == 1) & (index["fold"] == 0)][0]
    index.loc[unrated, "is_malignant"] = pd.NA
    predictions = fit_feature_baselines(**{**data, "index": index}, dataset="malignant_cutouts").predictions
    expected = rows_of(data, 0).drop(index=unrated)
    for _, rows in predictions.groupby("model"):
        assert rows["candidate_id"].tolist() == expected["candidate_id"].tolist()
        assert rows["class"].tolist() == expected["is_malignant"].fillna(False).astype(int).tolist()


def test_a_series_that_taught_or_chose_the_threshold_is_not_scored(data, fitted):
    baseline = fitted.baselines[0]
    assert baseline.seen_series == {"1.1", "1.2", "1.3", "1.5", "1.6", "1.7"}
    for fold in (1, 2):
        rows = rows_of(data, fold)
        with pytest.raises(ValueError, match=rf"what it has seen, got 2 such series \(the first 1.{fold}, logistic"):
            baseline.predict_table(rows, data["candidates"], features_of_index(rows, data["store"]))


def test_predictions_of_another_fold_or_of_other_labels_do_not_join_the_networks(data, fitted):
    test = rows_of(data, 0)
    scored = FoldPredictions(predictions=fitted.predictions, models=models_of_baselines(fitted))
    check_same_test_fold(scored, test, fitted.fold_digest)
    with pytest.raises(ValueError, match=r"got 22 of folds \[0\] and 22 of folds \[1\] \(logistic_regression\)"):
        check_same_test_fold(scored, rows_of(data, 1), fitted.fold_digest)
    with pytest.raises(ValueError, match="must be tested on the same candidates"):
        check_same_test_fold(scored, test.assign(**{"class": 1 - test["class"]}), fitted.fold_digest)
    with pytest.raises(ValueError, match=r"got others \(logistic_regression, gradient_boosting\)"):
        check_same_test_fold(scored, test, "other digest")


def test_labels_are_those_of_the_data_set(data):
    malignant = labelled(data["index"], data["store"], "malignant_cutouts")
    assert malignant["class"].sum() == data["index"]["is_malignant"].fillna(False).sum()
    assert malignant["class"].dtype == np.int8


def test_cutouts_that_are_not_the_indexs_are_refused(data):
    index = data["index"].assign(fingerprint="other")
    with pytest.raises(ValueError, match="must be made of the cutouts that are there"):
        fit_feature_baselines(**{**data, "index": index})


def test_an_unknown_estimator_or_data_set_is_refused_by_name(data):
    with pytest.raises(ValueError, match="got 'forest'"):
        fit_feature_baselines(**data, estimators=["forest"])
    with pytest.raises(ValueError, match="got 'nodules'"):
        fit_feature_baselines(**data, dataset="nodules")


def test_a_fitted_baseline_tells_its_decision_with_each_score(data):
    fitted = fit_feature_baselines(**noisy(data))
    for baseline in fitted.baselines:
        rows = fitted.predictions[fitted.predictions["model"] == baseline.model.name]
        for column in ("threshold", "threshold_f1", "threshold_sensitivity"):
            assert set(rows[column]) == {getattr(baseline.decision, column)}
        np.testing.assert_array_equal(rows["calibrated"], baseline.decision.calibrated(rows["probability"].to_numpy()))


def test_a_fitted_baseline_tells_its_size_and_how_long_it_learned(fitted):
    linear, trees = fitted.baselines
    assert linear.model.num_parameters == len(FEATURE_NAMES) + 1
    assert trees.model.num_parameters > 100
    assert all(0 < baseline.training_seconds < baseline.seconds for baseline in fitted.baselines)
