"""Scores of the test fold: by whom, of what, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from luna_pipeline.core.evaluation.report import binary_report
from luna_pipeline.launchers import LunaClassificationLauncher, RunOptions, log_test_metrics, predict_test_fold
from luna_pipeline.launchers.evaluation import unseen_fold
from luna_pipeline.tracking.mlflow_run import MlflowRun, mlflow_run


@pytest.fixture
def launcher(home) -> LunaClassificationLauncher:
    return LunaClassificationLauncher(home.path, options=RunOptions(show_progress=False))


@pytest.fixture
def checkpoint(launcher, home, small_config):
    return launcher.fit(replace(small_config, num_epochs=1), **home.data).checkpoint


def predict(home, checkpoints, **options):
    return predict_test_fold(
        index=home.index, candidates=home.candidates, store=home.store, checkpoints=checkpoints, **options
    )


def test_every_candidate_of_the_test_fold_is_scored_once_by_each_model(home, checkpoint):
    stranger = replace(checkpoint, name="stranger", training_series=[], validation_series=[], threshold=0.25)
    table = predict(home, [checkpoint, stranger], zero_rule=0.4)

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
def test_without_one_unseen_fold_there_is_no_test(home, checkpoint, seen, unseen):
    other = replace(checkpoint, training_series=seen, validation_series=[])
    with pytest.raises(ValueError, match=rf"must be unseen by the classifier, got {unseen}"):
        predict(home, [other])


@pytest.mark.parametrize("count", [0, 2])
def test_classifiers_must_have_names_of_their_own(launcher, home, checkpoint, count):
    with pytest.raises(ValueError, match="at least one and have names of their own"):
        predict(home, [checkpoint] * count)


def test_the_report_is_noted_in_the_run_that_trained(launcher, home, checkpoint, tracking_uri, tmp_path):
    with mlflow_run(
        tracking_uri, experiment="a", artifact_location=tmp_path / "artifacts", system_metrics_seconds=None
    ) as opened:
        known = replace(checkpoint, mlflow_run_id=opened.run_id)
    table = predict(home, [known])
    report = binary_report(table, dict.fromkeys(table["model"], 0.5))
    log_test_metrics(known, report, tracking_uri=tracking_uri)

    run = MlflowRun.at(tracking_uri, opened.run_id).client.get_run(opened.run_id)
    own = report[report["model"] == "nodule_classifier"].iloc[0]
    noted = {name: run.data.metrics[f"test/{name}"] for name in ("auc", "average_precision", "sensitivity")}
    np.testing.assert_allclose(list(noted.values()), own[list(noted)].to_numpy(dtype=float))
    assert run.info.status == "FINISHED"
    assert [path.name for path in (tmp_path / "artifacts").rglob("test/report.csv")] == ["report.csv"]


def test_without_an_mlflow_run_nothing_is_noted(launcher, home, checkpoint, tmp_path):
    table = predict(home, [checkpoint])
    report = binary_report(table, dict.fromkeys(table["model"], 0.5))
    log_test_metrics(checkpoint, report, tracking_uri=f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()
