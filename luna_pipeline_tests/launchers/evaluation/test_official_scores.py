"""LUNA16's score of pooled folds: scans, models and MLflow metrics."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from luna_pipeline.core.evaluation.report import binary_report
from luna_pipeline.core.training.checkpoints import load_checkpoint, save_checkpoint
from luna_pipeline.launchers.cross_validation import read_current
from luna_pipeline.launchers.evaluation.mlflow_metrics import log_fold_figures, log_fold_metrics, log_fold_scores
from luna_pipeline.launchers.evaluation.official_scores import (
    official_scores,
    pooled_checkpoints,
    reference_of,
    write_pooled_submission,
)
from luna_pipeline.launchers.installation import read_table
from luna_pipeline_tests.launchers.evaluated import (
    FOLDS,
    NODULE_CLASSIFIER,
    evaluated,
    evaluated_source,
    ranked_perfectly,
)

__all__ = ["evaluated", "evaluated_source"]


def scores_of(evaluated, **options):
    return official_scores(evaluated.settings, evaluated.pooled, **{"num_bootstraps": 20, "seed": 0, **options})


def test_scans_and_nodules_are_those_of_the_pooled_folds(evaluated):
    table = scores_of(evaluated).table.set_index("model")
    # Two of the eight series lie in each of four folds, with two nodules each.
    assert set(table["num_scans"]) == {4}
    assert set(table["num_nodules"]) == {8}
    assert set(table["folds"]) == {"folds 0, 1 of 4"}
    assert set(table.index) == {NODULE_CLASSIFIER, "middle_hu", "zero_rule_baseline"}
    assert set(table["num_found"] + table["num_false_positives"]) == {20}


def test_a_perfect_ranking_scores_one_and_the_zero_rule_what_ties_give(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    table = scores_of(evaluated).table.set_index("model")
    assert table.loc[NODULE_CLASSIFIER, "cpm"] == 1.0
    # The curve is one diagonal to all 8 nodules at 12 false positives on 4 scans, 3 per scan.
    rates = np.array([0.125, 0.25, 0.5, 1, 2, 4, 8])
    assert table.loc["zero_rule_baseline", "cpm"] == pytest.approx(np.minimum(rates / 3, 1).mean())


def test_without_annotations_there_is_no_score_and_it_is_said(evaluated):
    (evaluated.settings.data_dir / "annotations.csv").unlink()
    scores = scores_of(evaluated)
    assert scores.table.empty
    assert scores.results == {}
    assert scores.notes == ("There is no annotations.csv: without nodules to be found there is no FROC.",)
    assert reference_of(evaluated.settings, [0]) is None


def test_a_list_of_other_scans_gives_no_score_and_it_is_said(evaluated):
    (evaluated.settings.data_dir / "seriesuids.csv").write_text("9.9.9\n")
    scores = scores_of(evaluated)
    assert scores.table.empty
    assert scores.notes == (
        "There is no scan of these folds in seriesuids.csv: without nodules to be found there is no FROC.",
    )
    log_fold_scores(evaluated.settings, evaluated.pooled, NODULE_CLASSIFIER)


def test_a_model_that_has_scored_fewer_folds_is_left_out_and_it_is_said(evaluated):
    for name in ("nodule_predictions", "nodule_models"):
        rows = read_table(evaluated.settings, name, 1)
        evaluated.write_table(f"{name}/1", rows[rows["model"] != "middle_hu"])
    scores = scores_of(evaluated)
    assert set(scores.results) == {NODULE_CLASSIFIER, "zero_rule_baseline"}
    assert scores.notes[0] == "middle_hu has not scored all of these folds, and is left out."


def test_the_pooled_submission_is_named_by_its_folds(evaluated):
    path = write_pooled_submission(evaluated.settings, evaluated.pooled, NODULE_CLASSIFIER)
    assert path == evaluated.settings.home / "submissions/nodule_classifier/folds_0_1_of_4.csv"
    submission = pd.read_csv(path, float_precision="round_trip")
    rows = evaluated.pooled.predictions.query("model == @NODULE_CLASSIFIER")
    np.testing.assert_array_equal(submission["probability"], rows["probability"])


def test_each_run_is_noted_the_score_of_its_own_fold(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    log_fold_scores(evaluated.settings, evaluated.pooled, NODULE_CLASSIFIER)
    client = MlflowClient(evaluated.settings.mlflow_tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name("a").experiment_id])
    assert [run.data.metrics["test/cpm"] for run in runs] == [1.0, 1.0]
    assert [run.data.metrics["test/sensitivity_at_1_fp"] for run in runs] == [1.0, 1.0]


def inputs_of(client: MlflowClient, run_id: str) -> list[tuple[str, str, int, list[int]]]:
    """Role, name, rows and folds of a run's data sets."""
    inputs = client.get_run(run_id).inputs.dataset_inputs
    profiles = [json.loads(each.dataset.profile) for each in inputs]
    return [
        (each.tags[0].value, each.dataset.name, profile["num_rows"], profile["folds"])
        for each, profile in zip(inputs, profiles, strict=True)
    ]


def test_each_run_has_the_figures_of_its_own_fold(evaluated):
    client, whole = MlflowClient(evaluated.settings.mlflow_tracking_uri), b"all folds"
    log_fold_scores(evaluated.settings, evaluated.pooled, NODULE_CLASSIFIER, whole=whole)
    drawn = []
    log_fold_figures(
        evaluated.settings,
        evaluated.pooled,
        "roc",
        whole=whole,
        draw=lambda rows: drawn.append(sorted(set(rows["fold"]))) or f"fold {drawn[-1][0]}".encode(),
    )
    assert drawn == [[0], [1]]
    for fold, checkpoint in pooled_checkpoints(evaluated.settings, evaluated.pooled):
        run_id = checkpoint.mlflow_run_id
        files = {
            name: Path(client.download_artifacts(run_id, f"test/{name}.png")).read_bytes() for name in ("roc", "froc")
        }
        assert files["roc"] == f"fold {fold}".encode()
        assert files["froc"].startswith(b"\x89PNG")


def test_a_fold_alone_is_not_drawn_again(evaluated):
    folds = evaluated.pooled.folds
    alone = replace(evaluated.pooled, folds=replace(folds, classifiers=folds.classifiers[1:]))
    log_fold_scores(evaluated.settings, alone, NODULE_CLASSIFIER, whole=b"froc")
    log_fold_figures(evaluated.settings, alone, "roc", whole=b"roc", draw=None)
    client, (classifier,) = MlflowClient(evaluated.settings.mlflow_tracking_uri), alone.folds.classifiers
    run_id = load_checkpoint(evaluated.settings.home / classifier.path).mlflow_run_id
    found = {name: Path(client.download_artifacts(run_id, f"test/{name}.png")).read_bytes() for name in ("roc", "froc")}
    assert found == {"roc": b"roc", "froc": b"froc"}


def test_each_run_has_the_metrics_of_its_own_fold_and_notes_are_reported_once(evaluated):
    for fold in FOLDS:
        path = evaluated.settings.home / read_current(evaluated.settings, NODULE_CLASSIFIER, fold).path
        save_checkpoint(path, replace(load_checkpoint(path), notes="A note."))
    assert log_fold_metrics(evaluated.settings, evaluated.pooled) == "A note."
    client, report = MlflowClient(evaluated.settings.mlflow_tracking_uri), evaluated.pooled.predictions
    for fold, checkpoint in pooled_checkpoints(evaluated.settings, evaluated.pooled):
        own = binary_report(report[report["fold"] == fold], num_bootstraps=0).set_index("model").loc[NODULE_CLASSIFIER]
        assert client.get_run(checkpoint.mlflow_run_id).data.metrics["test/auc"] == pytest.approx(own["auc"])
        assert ("test", "cutouts", 10, [fold]) in inputs_of(client, checkpoint.mlflow_run_id)


def test_table_and_runs_say_that_the_candidates_are_a_sample(evaluated):
    client = MlflowClient(evaluated.settings.mlflow_tracking_uri)
    run_ids = [checkpoint.mlflow_run_id for _, checkpoint in pooled_checkpoints(evaluated.settings, evaluated.pooled)]

    def tags():
        log_fold_metrics(evaluated.settings, evaluated.pooled)
        return {client.get_run(run_id).data.tags["luna.test_candidates"] for run_id in run_ids}

    assert (tags(), set(scores_of(evaluated, num_bootstraps=0).table["notes"])) == ({"all"}, {""})
    evaluated.sample_candidates()
    assert tags() == {evaluated.pooled.sample} != {""}
    assert set(scores_of(evaluated, num_bootstraps=0).table["notes"]) == {"sampled candidates, not comparable"}


def test_a_folds_sensitivity_at_one_false_positive_is_read_off_its_curve(evaluated):
    log_fold_scores(evaluated.settings, evaluated.pooled, "zero_rule_baseline")
    client = MlflowClient(evaluated.settings.mlflow_tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name("a").experiment_id])
    # The curve is one diagonal to all 4 nodules at 6 false positives on 2 scans, 3 per scan.
    assert [run.data.metrics["test/sensitivity_at_1_fp"] for run in runs] == pytest.approx([1 / 3, 1 / 3])
