"""Studies on a local Ray: their files, rejected requests, and the comparison of the winner."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from luna_pipeline.cluster.session import ray_session
from luna_pipeline.core.evaluation.comparison import paired_difference
from luna_pipeline.core.evaluation.froc_table import evaluate_models
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.core.training.config import TrainingConfig
from luna_pipeline.launchers import LunaClassificationLauncher
from luna_pipeline.launchers.evaluation.fold_predictions import predict_test_fold
from luna_pipeline.launchers.evaluation.official_scores import reference_of
from luna_pipeline.tuning.resources import TrialResources
from luna_pipeline.tuning.space import Choices, SearchSpace
from luna_pipeline.tuning.tune import tune_parameters
from luna_pipeline_tests.tuning.searched import (
    RATES,
    breaking,
    request_of,
    searched,
    study_of_rates,
    without_times,
)

__all__ = ["breaking", "searched"]

# One process of Ray for all trials of a study: each loads torch first.
ONE_BY_ONE = TrialResources(max_concurrent=1)


@pytest.fixture(scope="module", autouse=True)
def _one_ray():
    """One Ray session with two CPUs for all studies, since it takes seconds to start."""
    with ray_session(num_cpus=2):
        yield


@pytest.mark.seed_defect(68)
def test_a_study_leaves_a_table_pictures_a_configuration_runs_and_a_classifier_and_comes_to_the_same_again(
    searched, small_config
):
    home, settings = searched
    lines: list[str] = []
    study = study_of_rates(small_config)
    launcher = LunaClassificationLauncher(settings.home)
    tuned = launcher.tune_parameters(
        request_of(study, lines, uses_mlflow=True), settings=settings, tune=tune_parameters
    )

    # Four trials in order, each with one learning rate.
    assert list(tuned.table["trial"]) == [0, 1, 2, 3]
    assert list(tuned.table["state"]) == ["finished"] * 4
    assert list(tuned.table["optimizer.learning_rate"]) == [0.0001, *RATES]
    assert list(tuned.table["num_epochs"]) == [3] * 4
    best = tuned.table.loc[tuned.table["score"].idxmax()]
    assert tuned.winner.trial == best["trial"] != 0
    assert tuned.config == study.base.with_changes({**tuned.winner.changes, "num_epochs": 3})

    folder = home.path / "tuning/nodule_classifier/0.0.1-fold0"
    assert tuned.place.folder == folder
    written = pd.read_csv(folder / "trials.csv")
    pd.testing.assert_frame_equal(written[["trial", "score"]], tuned.table[["trial", "score"]])
    assert TrainingConfig.from_dict(json.loads((folder / "best.json").read_text())) == tuned.config
    for name in ("parallel_coordinates.png", "importance.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    for number in range(4):
        assert list((folder / f"tensorboard/nodule_classifier/trial-{number:04d}").glob("events*"))
    _check_runs(settings, tuned)
    _check_winner(searched, tuned)
    assert lines[0] == f"Study nodule_classifier 0.0.1-fold0 starts ({folder})"
    assert sum("ended: trial" in line for line in lines) == 4

    # No trial reads cutouts of the test fold: without them the result is the same.
    for uid in home.index.loc[home.index["fold"] == 0, "series_instance_uid"].unique():
        (home.path / f"cutouts/{uid}.npz").unlink()
    again = tune_parameters(settings, request_of(study, [], trains_winner=False, resources=ONE_BY_ONE))
    assert again.title == "nodule_classifier 0.0.1-fold0+1"
    pd.testing.assert_frame_equal(without_times(again.table), without_times(tuned.table))


def _check_runs(settings, tuned) -> None:
    """The runs of the study and of its trials have ended, and no trial registered a model."""
    client = MlflowClient(settings.mlflow_tracking_uri)
    study = client.get_run(tuned.mlflow_run_id)
    assert study.info.status == "FINISHED"
    assert study.data.params["searcher"] == "grid"
    assert study.data.metrics["validation/best_cpm"] == pytest.approx(tuned.table["score"].max())
    (best,) = client.get_metric_history(study.info.run_id, "validation/best_cpm")
    assert study.info.start_time <= best.timestamp <= study.info.end_time
    names = {artifact.path for artifact in client.list_artifacts(study.info.run_id)}
    assert names == {"trials.csv", "best.json", "parallel_coordinates.png", "importance.png"}
    below = client.search_runs([study.info.experiment_id], f"tags.mlflow.parentRunId = '{study.info.run_id}'")
    assert sorted(run.data.tags["luna.trial"] for run in below) == ["0", "1", "2", "3"]
    assert {run.info.status for run in below} == {"FINISHED"}
    assert all("validation/auc" in run.data.metrics for run in below)
    rates = {run.data.tags["luna.trial"]: float(run.data.params["optimizer.learning_rate"]) for run in below}
    assert rates == {"0": 0.0001, **{str(n): rate for n, rate in enumerate(RATES, start=1)}}
    registered = {model.name for model in client.search_registered_models()}
    assert registered == {"tuned_nodule_classifier", "untuned_nodule_classifier"}


def _check_winner(searched, tuned) -> None:
    """The winner is trained on all folds but the test fold, and compared as in the evaluation."""
    home, settings = searched
    checkpoint = load_checkpoint(tuned.classifier.path)
    by_fold = home.index.groupby("fold")["series_instance_uid"].unique()
    assert checkpoint.training_series == sorted([*by_fold[1], *by_fold[2], *by_fold[3]])
    assert checkpoint.validation_series == []
    assert checkpoint.config.num_epochs == int(tuned.table.set_index("trial").loc[tuned.winner.trial, "best_epoch"])
    assert (checkpoint.name, checkpoint.version) == ("tuned_nodule_classifier", "0.0.1-fold0")
    untuned = load_checkpoint(home.path / "checkpoints/untuned_nodule_classifier/0.0.1-fold0/best.pt")
    assert untuned.training_series == checkpoint.training_series

    predicted = predict_test_fold(
        index=home.index,
        candidates=home.candidates,
        store=home.store,
        test_fold=0,
        classifiers={"tuned": checkpoint, "untuned": untuned},
    ).predictions
    reference = reference_of(settings, [0])
    results = evaluate_models(predicted, reference, num_bootstraps=1000, seed=0)
    found = tuned.comparison
    assert (found.tuned, found.untuned) == tuple(results[name].curve.comparable_cpm for name in ("tuned", "untuned"))
    assert found.difference == paired_difference(results["tuned"], results["untuned"])
    assert found.num_scans == 2
    assert str(found) in tuned.conclusion
    written = json.loads((tuned.place.folder / "comparison.json").read_text())
    assert written["in_words"] == found.difference.in_words
    assert written["difference"]["lower"] == found.difference.lower


def test_a_trial_that_raises_is_shown_with_its_error_and_the_others_go_on(searched, small_config, breaking):
    _, settings = searched
    space = SearchSpace({"loss.name": Choices(("breaking", "cross_entropy"))})
    study = replace(study_of_rates(small_config), space=space, metric="auc", num_epochs=1)
    lines: list[str] = []
    tuned = tune_parameters(settings, request_of(study, lines, trains_winner=False, resources=ONE_BY_ONE))
    table = tuned.table.set_index("trial")
    # Workers have not registered that loss: it is unknown to them, or fails to build.
    assert list(table["state"]) == ["finished", "failed", "finished"]
    assert table.loc[1, "error"].startswith("ValueError: The loss must be one of")
    assert list(table["score"].isna()) == [False, True, False]
    assert table.loc[1, "num_restarts"] == 0
    assert sum("failed: ValueError: The loss must be one of" in line for line in lines) == 1


def test_asha_stops_what_falls_behind_and_a_budget_of_epochs_ends_all(searched, small_config):
    _, settings = searched
    stopped = replace(
        study_of_rates(small_config),
        searcher="random",
        num_trials=3,
        scheduler="asha",
        num_epochs=4,
        reduction_factor=2,
        metric="auc",
    )
    tuned = tune_parameters(settings, request_of(stopped, [], trains_winner=False, resources=ONE_BY_ONE))
    states = tuned.table.set_index("trial")["state"]
    # The first has no predecessor; later ones that are below the best half stop at once.
    assert states[0] == "finished"
    assert "stopped_early" in set(states)
    early = tuned.table[tuned.table["state"] == "stopped_early"]
    assert (early["num_epochs"] < 4).all()
    assert early["score"].max() <= tuned.table["score"].max()

    # The order of results is fixed, too, since trials run one at a time.
    again = tune_parameters(settings, request_of(stopped, [], trains_winner=False, resources=ONE_BY_ONE))
    pd.testing.assert_frame_equal(without_times(again.table), without_times(tuned.table))

    ended = replace(stopped, scheduler="none", total_epochs=6)
    short = tune_parameters(settings, request_of(ended, [], trains_winner=False, resources=ONE_BY_ONE))
    assert short.table["num_epochs"].sum() in (6, 7)
    assert list(short.table["state"]) == ["finished", "stopped_early"]


def test_a_budget_of_seconds_ends_a_study(searched, small_config):
    _, settings = searched
    endless = replace(
        study_of_rates(small_config),
        searcher="random",
        num_trials=2,
        num_epochs=100_000,
        metric="auc",
    )
    for seconds in (15.0, 60.0, 300.0):
        # A busy machine needs minutes to load torch and to train the first epoch.
        study = replace(endless, total_seconds=seconds)
        with contextlib.suppress(ValueError):
            tuned = tune_parameters(settings, request_of(study, [], trains_winner=False, resources=ONE_BY_ONE))
            break
    assert list(tuned.table["state"]) == ["stopped_early"]
    assert (tuned.table["num_epochs"] >= 1).all()


def test_optuna_numbers_its_trials_and_begins_with_the_recipe_as_it_is(searched, small_config):
    _, settings = searched
    study = replace(study_of_rates(small_config), searcher="optuna", num_trials=3, num_epochs=1, metric="auc")
    tuned = tune_parameters(settings, request_of(study, [], trains_winner=False, resources=ONE_BY_ONE))
    assert list(tuned.table["trial"]) == [0, 1, 2]
    assert tuned.table["changes"][0] == "{}"
    assert set(tuned.table["optimizer.learning_rate"][1:]) <= set(RATES)


def test_a_winner_that_is_the_recipe_itself_is_said_to_be(searched, small_config):
    _, settings = searched
    study = replace(
        study_of_rates(small_config.with_changes({"optimizer.learning_rate": 0.01})),
        num_epochs=1,
        metric="auc",
        space=SearchSpace({"optimizer.learning_rate": Choices((1e-8,))}),
    )
    study = replace(study, base=study.base.with_changes({"optimizer.learning_rate": 0.01}))
    tuned = tune_parameters(settings, request_of(study, [], resources=ONE_BY_ONE))
    assert tuned.winner.trial == 0
    assert tuned.comparison is None
    assert tuned.conclusion.startswith("No trial was better than the recipe as it is on the validation fold.")
    assert tuned.classifier.checkpoint.name == "tuned_nodule_classifier"


@pytest.mark.parametrize(
    ("folds", "metric", "line"),
    [
        ({0: 0, 1: 1, 2: 1, 3: 1}, "auc", "A study must have a validation fold beside test and training"),
        (None, "cpm", "CPM must have annotated nodules to find, got none (fold 0)"),
    ],
)
def test_folds_and_tables_that_give_no_score_are_refused_before_anything_starts(
    searched, small_config, folds, metric, line
):
    home, settings = searched
    if folds:
        path = settings.tables_dir / "cutout_index.parquet"
        index = pd.read_parquet(path)
        index.assign(fold=index["fold"].map(folds)).to_parquet(path)
    else:
        (settings.data_dir / "annotations.csv").unlink()
    request = request_of(study_of_rates(small_config, metric=metric), [], validation_fold=None)
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        tune_parameters(settings, request)
    assert line in str(refused.value)
    assert not (home.path / "tuning").exists()


def test_a_validation_fold_with_one_class_is_refused(searched, small_config):
    _, settings = searched
    path = settings.tables_dir / "cutout_index.parquet"
    index = pd.read_parquet(path)
    index.loc[index["fold"] == 1, "class"] = np.int8(0)
    index.to_parquet(path)
    with pytest.raises(ValueError, match="The validation fold must hold both classes, got 0 of 10 that are looked for"):
        tune_parameters(settings, request_of(study_of_rates(small_config, metric="auc"), []))


def test_more_than_there_is_room_for_is_refused(searched, small_config):
    _, settings = searched
    request = request_of(study_of_rates(small_config), [], resources=TrialResources(cpus=64))
    with pytest.raises(ValueError, match="There must be room for a trial of 64 CPUs and 0 GPUs, got 2 CPUs"):
        tune_parameters(settings, request)
