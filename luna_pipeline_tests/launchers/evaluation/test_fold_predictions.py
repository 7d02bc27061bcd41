"""Scores of a test fold: models, candidates and errors."""

from dataclasses import replace

import numpy as np
import pytest

from luna_pipeline.core.evaluation.report import binary_report
from luna_pipeline.core.metrics.decision import Decision
from luna_pipeline.core.storage.tables import check_table
from luna_pipeline.core.training.checkpoints import Checkpoint, save_checkpoint
from luna_pipeline.launchers import LunaClassificationLauncher, RunOptions, log_test_metrics, predict_test_fold
from luna_pipeline.launchers.evaluation.fold_predictions import (
    FoldPredictions,
    classifiers_of_fold,
    training_share,
    write_submissions,
)
from luna_pipeline.launchers.seen_data import unseen_fold
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_run import MlflowRun, mlflow_run


@pytest.fixture
def launcher(home) -> LunaClassificationLauncher:
    return LunaClassificationLauncher(home.path, options=RunOptions(show_progress=False))


@pytest.fixture
def checkpoint(launcher, home, small_config):
    return launcher.fit(replace(small_config, num_epochs=1), **home.data).checkpoint


@pytest.fixture
def settings(home, tmp_path) -> Settings:
    return Settings(data_dir=tmp_path / "data", home=home.path, mlflow_tracking_uri="")


def predict(home, checkpoints, *, test_fold: int = 0, **options) -> FoldPredictions:
    classifiers = {checkpoint.name: checkpoint for checkpoint in checkpoints}
    return predict_test_fold(
        index=home.index,
        candidates=home.candidates,
        store=home.store,
        test_fold=test_fold,
        classifiers=classifiers,
        **options,
    )


def keep(settings: Settings, checkpoint: Checkpoint, version: str) -> None:
    path = settings.checkpoints_dir / checkpoint.name / version / "best.pt"
    save_checkpoint(path, replace(checkpoint, version=version))


def test_every_candidate_of_the_test_fold_is_scored_once_by_each_model(home, checkpoint):
    stranger = replace(checkpoint, name="stranger", training_series=[], validation_series=[])
    stranger = replace(stranger, decision=Decision.at(0.25))
    table = predict(home, [checkpoint, stranger], zero_rule_score=0.4).predictions

    check_table("nodule_predictions", table)
    assert set(table["model"]) == {"nodule_classifier", "stranger", "middle_hu", "zero_rule_baseline"}
    for _, rows in table.groupby("model"):
        assert sorted(rows["candidate_id"]) == sorted(home.test_rows["candidate_id"])
    thresholds = table.groupby("model")["threshold"].first()
    assert thresholds["stranger"] == 0.25
    assert thresholds["nodule_classifier"] == checkpoint.threshold
    assert set(table.loc[table["model"] == "zero_rule_baseline", "probability"]) == {0.4}


@pytest.mark.seed_defect(49)
def test_the_fold_that_chose_the_threshold_is_not_the_test_fold(home, checkpoint):
    assert unseen_fold(checkpoint, home.index) == 0


def test_a_classifier_that_has_seen_the_test_fold_is_refused(home, checkpoint):
    informed = replace(checkpoint, name="informed", validation_series=["1.2.4"])
    with pytest.raises(ValueError, match=r"got 1 such series \(the first 1.2.4, informed 0.0.1\)"):
        predict(home, [checkpoint, informed])


@pytest.mark.parametrize(
    ("seen", "unseen"), [(["1.2.0", "1.2.1", "1.2.2", "1.2.3"], r"\[\]"), (["1.2.2", "1.2.3"], r"\[0, 1\]")]
)
def test_the_unseen_fold_must_be_one(home, checkpoint, seen, unseen):
    other = replace(checkpoint, training_series=seen, validation_series=[])
    with pytest.raises(ValueError, match=rf"must be unseen by the classifier, got {unseen}"):
        unseen_fold(other, home.index)


def test_a_fold_must_exist_and_be_scored_by_somebody(home, checkpoint):
    with pytest.raises(ValueError, match=r"A held-out fold must exist, got 7 of folds \[0, 1, 2, 3\]"):
        predict(home, [checkpoint], test_fold=7)
    with pytest.raises(ValueError, match="must be scored by a classifier, got none"):
        predict(home, [])


def test_classifiers_must_have_names_of_their_own(settings, checkpoint):
    with pytest.raises(ValueError, match="must have different names, got"):
        classifiers_of_fold(settings, checkpoint, [checkpoint.name], test_fold=0)


def test_further_classifiers_are_those_of_the_fold_where_there_are_any(settings, checkpoint):
    other = replace(checkpoint, name="other net")
    for version in ("1", "2-fold0", "2", "3-fold1"):
        keep(settings, other, version)
    found = {}
    for fold in (0, 1):
        classifiers = classifiers_of_fold(settings, checkpoint, ["other net 2", "other net"], test_fold=fold)
        found[fold] = {name: classifier.version for name, classifier in classifiers.items()}
    assert found[0] == {"nodule_classifier": "0.0.1", "other net 2": "2-fold0", "other net": "3-fold1"}
    assert found[1]["other net 2"] == "2"


def test_the_table_of_models_says_what_scored_the_fold(home, checkpoint):
    known = replace(checkpoint, mlflow_run_id="run")
    models = predict(home, [known], zero_rule_score=0.4).models.set_index("model")
    check_table("nodule_models", models.reset_index())
    own = models.loc["nodule_classifier"]
    assert (own["version"], own["mlflow_run_id"], own["fold"]) == ("0.0.1", "run", 0)
    # Two blocks of 3 x 3 x 3 weights and a bias or scale and shift each, and the head.
    assert own["num_parameters"] == sum(
        value.numel() for name, value in checkpoint.model_state.items() if "running" not in name and "num" not in name
    )
    assert own["training_seconds"] == checkpoint.training_seconds > 0
    np.testing.assert_allclose(own["candidates_per_second"], own["num_candidates"] / own["scoring_seconds"])
    assert set(models["num_candidates"]) == {len(home.test_rows)}
    assert models.loc["zero_rule_baseline", ["version", "recipe_digest"]].isna().all()


def test_the_share_of_training_is_that_of_the_series_it_learned_from(home, checkpoint):
    rows = home.index[(home.index["fold"] > 1) & (home.index["source"] == "candidate")]
    assert training_share(home.index, home.store, checkpoint) == rows["class"].mean()


def test_networks_alone_are_written_as_submissions(home, settings, checkpoint):
    fold = predict(home, [checkpoint], zero_rule_score=0.4)
    assert write_submissions(settings, fold, test_fold=0) == {
        "nodule_classifier": home.path / "submissions/nodule_classifier/0.csv"
    }
    lines = (home.path / "submissions/nodule_classifier/0.csv").read_text().splitlines()
    assert len(lines) == 1 + len(home.test_rows)


def test_the_report_is_noted_in_the_run_that_trained(launcher, home, checkpoint, tracking_uri, tmp_path):
    with mlflow_run(
        tracking_uri, experiment="a", artifact_location=tmp_path / "artifacts", system_metrics_seconds=None
    ) as opened:
        known = replace(checkpoint, mlflow_run_id=opened.run_id)
    report = binary_report(predict(home, [known]).predictions, num_bootstraps=0)
    log_test_metrics(known, report, tracking_uri=tracking_uri)

    run = MlflowRun.at(tracking_uri, opened.run_id).client.get_run(opened.run_id)
    own = report[report["model"] == "nodule_classifier"].iloc[0]
    noted = {name: run.data.metrics[f"test/{name}"] for name in ("auc", "average_precision", "sensitivity")}
    np.testing.assert_allclose(list(noted.values()), own[list(noted)].to_numpy(dtype=float))
    assert run.info.status == "FINISHED"
    assert [path.name for path in (tmp_path / "artifacts").rglob("test/report.csv")] == ["report.csv"]


def test_without_an_mlflow_run_nothing_is_noted(launcher, home, checkpoint, tmp_path):
    report = binary_report(predict(home, [checkpoint]).predictions, num_bootstraps=0)
    log_test_metrics(checkpoint, report, tracking_uri=f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()
