"""Promotion of the champion, with a real MLflow registry."""

import contextlib
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import dagster as dg
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from luna_pipeline.assets.stage_5_scores import champion as champion_asset
from luna_pipeline.core.export.equality import Equality
from luna_pipeline.core.training.checkpoints import load_checkpoint, save_checkpoint
from luna_pipeline.io_managers import TablesIOManager
from luna_pipeline.launchers.cross_validation import pooled_folds, read_current
from luna_pipeline.launchers.evaluation import champion, export_condition
from luna_pipeline.launchers.evaluation.champion import challenge
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.resources import LunaPaths
from luna_pipeline_tests.launchers.evaluated import (
    FOLDS,
    NODULE_CLASSIFIER,
    evaluated,
    evaluated_source,
    ranked_perfectly,
)

__all__ = ["evaluated", "evaluated_source"]


def board_of(evaluated) -> pd.DataFrame:
    models = {"model": ["gradient_boosting", "book", NODULE_CLASSIFIER], "mlflow_runs": ["", "b", "r0, r1"]}
    return pd.DataFrame(models).assign(classifier_versions=pooled_folds(evaluated.settings, NODULE_CLASSIFIER).versions)


def challenged(evaluated, **options):
    facts = {"max_ece": 0.1, "num_bootstraps": 50, "seed": 0}
    outcome = challenge(evaluated.settings, board_of(evaluated), **{**facts, **options})
    evaluated.write_table("champion", outcome.predictions)
    return outcome


def alias_of(evaluated) -> str | None:
    client = MlflowClient(evaluated.settings.mlflow_tracking_uri)
    number = client.get_registered_model(NODULE_CLASSIFIER).aliases.get("champion")
    return None if number is None else client.get_model_version(NODULE_CLASSIFIER, number).tags["checkpoint"]


def change_checkpoint(evaluated, fold: int, **changes) -> None:
    path = evaluated.settings.home / read_current(evaluated.settings, NODULE_CLASSIFIER, fold).path
    save_checkpoint(path, replace(load_checkpoint(path), **changes))


def failing(outcome) -> list[str]:
    return [condition.name for condition in outcome.promotion.conditions if not condition.is_met]


def test_the_first_champion_must_beat_the_zero_rule_and_is_the_fold_with_the_best_validation(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    change_checkpoint(evaluated, 0, best_score=0.6)
    change_checkpoint(evaluated, 1, best_score=0.7)
    outcome = challenged(evaluated)
    assert (outcome.is_fine, outcome.champion, outcome.folds) == (True, "nodule_classifier 0.0.1-fold1", "0, 1")
    assert alias_of(evaluated) == "nodule_classifier 0.0.1-fold1"
    assert "becomes the champion over none" in outcome.text
    assert sorted(outcome.predictions["candidate_id"]) == sorted(
        evaluated.pooled.predictions.query("model == @NODULE_CLASSIFIER")["candidate_id"]
    )


def test_the_champion_itself_changes_nothing(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    first = challenged(evaluated)
    again = challenged(evaluated)
    assert again.is_fine
    assert again.text == f"{first.champion} is the champion already."
    pd.testing.assert_frame_equal(again.predictions, first.predictions)


def test_a_challenger_that_is_not_better_leaves_the_champion_where_it_is(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    first = challenged(evaluated)
    for fold in FOLDS:
        rename(evaluated, fold)
    outcome = challenged(evaluated)
    assert (outcome.is_fine, failing(outcome), outcome.promotion.is_error) == (False, ["better"], False)
    assert outcome.champion == first.champion
    assert alias_of(evaluated) == first.champion
    assert " is not promoted: The difference of CPM must be above 0" in outcome.text
    assert f"Champion as before: {first.champion}." in outcome.text


def test_a_challenger_whose_onnx_form_differs_is_not_promoted(evaluated, monkeypatch: pytest.MonkeyPatch):
    evaluated.change_predictions(ranked_perfectly)
    unequal = Equality(differences={"random": 1e-7, "bone": 3e-5})
    with monkeypatch.context() as patch:
        patch.setattr(export_condition, "onnx_equality", lambda _checkpoint: unequal)
        outcome = challenged(evaluated)
    assert (outcome.is_fine, failing(outcome), outcome.promotion.is_error) == (False, ["exported"], False)
    assert alias_of(evaluated) is None
    again = challenged(evaluated)
    assert again.is_fine
    assert again.promotion.conditions[-1].finding.startswith("Probabilities of the ONNX form must differ by at most")


def rename(evaluated, fold: int) -> None:
    """Give a fold's classifier another version."""
    current = read_current(evaluated.settings, NODULE_CLASSIFIER, fold)
    version = f"0.0.2-fold{fold}"
    checkpoint = load_checkpoint(evaluated.settings.home / current.path)
    path = f"checkpoints/{NODULE_CLASSIFIER}/{version}/best.pt"
    save_checkpoint(evaluated.settings.home / path, replace(checkpoint, version=version))
    replace(current, version=version, path=path).write(evaluated.settings)
    models = read_table(evaluated.settings, "nodule_models", fold)
    models.loc[models["model"] == NODULE_CLASSIFIER, "version"] = version
    evaluated.write_table(f"nodule_models/{fold}", models)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation_series": ["1.2.0"]}, "1.2.0"),
        ({"inherited_training_series": ["1.2.4"]}, "1.2.4"),
        ({"training_candidate_ids": "tested"}, "candidates that it has learned from"),
    ],
)
def test_what_has_seen_its_test_fold_is_not_even_pooled(evaluated, changes, words):
    evaluated.change_predictions(ranked_perfectly)
    if changes.get("training_candidate_ids"):
        tested = read_table(evaluated.settings, "nodule_predictions", 0)["candidate_id"].iloc[:1].to_numpy()
        changes = {"training_candidate_ids": torch.from_numpy(tested.copy())}
    change_checkpoint(evaluated, 0, **changes)
    with pytest.raises(ValueError, match=words):
        challenged(evaluated)
    assert alias_of(evaluated) is None


def test_a_patient_in_training_and_test_is_a_leak(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    folds = read_table(evaluated.settings, "folds")
    evaluated.write_table("folds", folds.assign(patient_hash="f" * 64))
    with pytest.raises(ValueError, match="ffffffffffff"):
        challenged(evaluated)


def test_weights_of_which_nobody_knows_what_they_have_seen_become_no_champion(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    change_checkpoint(evaluated, 0, has_unknown_origin=True)
    outcome = challenged(evaluated)
    assert (outcome.is_fine, failing(outcome), outcome.promotion.is_error) == (False, ["no_leak"], True)
    assert "what they have seen is not known" in outcome.text
    assert (outcome.champion, outcome.registered_version, outcome.folds) == ("none", "none", "")
    assert alias_of(evaluated) is None


def test_without_a_calibration_there_is_no_champion(evaluated):
    evaluated.change_predictions(lambda rows: ranked_perfectly(rows).assign(calibrated=math.nan))
    outcome = challenged(evaluated)
    assert (outcome.is_fine, failing(outcome), outcome.promotion.is_error) == (False, ["calibrated"], False)
    assert "there is no calibration" in outcome.text


def test_a_score_of_sampled_candidates_makes_no_champion(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    evaluated.sample_candidates()
    outcome = challenged(evaluated)
    assert (outcome.is_fine, failing(outcome), outcome.promotion.is_error) == (False, ["all_candidates"], False)
    assert "20 of 24 candidates of these scans" in outcome.text
    assert alias_of(evaluated) is None


def test_a_champion_needs_an_mlflow_run(evaluated):
    for fold in FOLDS:
        change_checkpoint(evaluated, fold, mlflow_run_id=None)
    outcome = challenged(evaluated)
    assert (outcome.is_fine, failing(outcome), outcome.promotion.is_error) == (False, ["registered"], False)
    assert "trained with MLflow, got gradient_boosting, book, nodule_classifier. Train" in outcome.text
    assert alias_of(evaluated) is None


def test_a_classifier_that_the_registry_does_not_have_is_not_promoted(evaluated):
    for fold in FOLDS:
        change_checkpoint(evaluated, fold, mlflow_run_id="another")
    outcome = challenged(evaluated)
    assert (failing(outcome), outcome.promotion.is_error) == (["registered"], False)
    assert "got no version of the run another" in outcome.text


def test_a_leaderboard_of_other_classifiers_is_refused(evaluated):
    board = board_of(evaluated).assign(classifier_versions="0.0.1-fold0")
    with pytest.raises(ValueError, match=r"0\.0\.1-fold0, 0\.0\.1-fold1, got 0\.0\.1-fold0 \(leaderboard\)"):
        challenge(evaluated.settings, board, max_ece=0.1, num_bootstraps=5, seed=0)


def test_an_alias_that_somebody_else_moved_is_said_and_nothing_is_replaced(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    first = challenged(evaluated)
    for fold in FOLDS:
        rename(evaluated, fold)
    client = MlflowClient(evaluated.settings.mlflow_tracking_uri)
    client.delete_registered_model_alias(NODULE_CLASSIFIER, "champion")
    got = rf"got version None there and {first.registered_version} in champion\.parquet"
    with pytest.raises(ValueError, match=got):
        challenge(evaluated.settings, board_of(evaluated), max_ece=0.1, num_bootstraps=5, seed=0)
    assert alias_of(evaluated) is None


def test_a_promotion_that_was_killed_before_its_table_was_written_is_made_again(evaluated):
    evaluated.change_predictions(ranked_perfectly)
    first = challenged(evaluated)
    (evaluated.settings.tables_dir / "champion.parquet").unlink()
    again = challenged(evaluated)
    assert (again.is_fine, again.champion) == (True, first.champion)


def test_two_promotions_at_once_leave_alias_table_and_tags_of_one_version(evaluated, monkeypatch):
    monkeypatch.setenv("LUNA_HOME", str(evaluated.settings.home))
    monkeypatch.setenv("LUNA_DATA_DIR", str(evaluated.settings.data_dir))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", evaluated.settings.mlflow_tracking_uri)
    evaluated.change_predictions(ranked_perfectly)
    boards = [board_of(evaluated), board_of(evaluated)]
    # Each promotion would otherwise see no champion: both wait until both have looked for one, or half a second.
    both_looked = threading.Barrier(2)
    look = champion._kept_champion

    def slow_look(*arguments):
        found = look(*arguments)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_looked.wait(0.5)
        return found

    monkeypatch.setattr(champion, "_kept_champion", slow_look)
    monkeypatch.setattr(champion._Challenger, "chosen", property(checkpoint_of_thread))
    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(make_champion, boards))
    assert all(outcome.success for outcome in outcomes)
    table = read_table(evaluated.settings, "champion")
    (title,) = table["champion"].unique()
    assert alias_of(evaluated) == title
    client = MlflowClient(evaluated.settings.mlflow_tracking_uri)
    versions = client.search_model_versions(f"name='{NODULE_CLASSIFIER}'")
    assert [version.tags["checkpoint"] for version in versions if "promotion" in version.tags] == [title]


def checkpoint_of_thread(challenger):
    """Return another fold's checkpoint in each thread, so that the promotions are of different versions."""
    names = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor"))
    return challenger.checkpoints[FOLDS[names.index(threading.current_thread().name) % len(FOLDS)]]


def make_champion(board: pd.DataFrame) -> dg.ExecuteInProcessResult:
    @dg.asset
    def leaderboard():
        return board

    resources = {"tables": TablesIOManager(), "paths": LunaPaths(), "io_manager": dg.mem_io_manager}
    config = {"ops": {"champion": {"config": {"max_calibration_error": 1.0, "num_bootstraps": 20}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([leaderboard, champion_asset], instance=instance, resources=resources, run_config=config)
