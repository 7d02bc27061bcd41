"""Retraining the winner, and its comparison with the unchanged recipe, without a search."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.evaluation.comparison import PairedDifference
from luna_pipeline.core.evaluation.intervals import ranking_draws
from luna_pipeline.core.metrics.binary import binary_metrics
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.launchers.evaluation.scoring import score
from luna_pipeline.tuning.winner import FinalTraining, TunedComparison
from luna_pipeline_tests.tuning.searched import searched

__all__ = ["searched"]


@pytest.fixture
def training(searched) -> FinalTraining:
    home, settings = searched
    return FinalTraining(
        settings=settings, index=home.index, store=home.store, test_fold=0, open_mlflow_run=None, report=lambda _: None
    )


@pytest.mark.parametrize(
    ("scheduler", "epochs"), [("constant", 2), ("exponential", 2), ("cosine", 4), ("one_cycle", 4)]
)
def test_it_trains_for_as_many_epochs_as_were_best_unless_its_rate_falls_over_all_of_them(
    training, small_config, scheduler, epochs
):
    config = small_config.with_changes({"scheduler.name": scheduler, "num_epochs": 4})
    trained = training.run(config, best_epoch=2, prefix="tuned")
    checkpoint = load_checkpoint(trained.path)
    assert (checkpoint.name, checkpoint.version) == ("tuned_nodule_classifier", "0.0.1-fold0")
    assert checkpoint.config.num_epochs == checkpoint.epoch == epochs
    # All folds but the test fold were used for training, none for validation.
    held_out = set(training.index.loc[training.index["fold"] == 0, "series_instance_uid"])
    assert checkpoint.training_series == sorted(set(training.index["series_instance_uid"]) - held_out)
    assert checkpoint.validation_series == []
    assert "Trained without validation" in checkpoint.notes


def test_without_a_reference_both_are_compared_by_their_auc_on_the_same_draws(training, small_config):
    tuned, untuned = (
        load_checkpoint(training.run(small_config.with_changes({"seed": seed}), best_epoch=1, prefix=name).path)
        for seed, name in ((1, "tuned"), (2, "untuned"))
    )
    found = training.compare(tuned, untuned, metric="auc", reference=None, num_bootstraps=50, seed=3)
    test = training.index[(training.index["fold"] == 0) & (training.index["source"] == "candidate")]
    labels, scans = test["class"].to_numpy(dtype=np.int64), test["series_instance_uid"]
    scores = [score(checkpoint, test, training.store) for checkpoint in (tuned, untuned)]
    aucs = [binary_metrics(labels, values)["auc"] for values in scores]
    draws = [ranking_draws(labels, values, scans, num_bootstraps=50, seed=3)["auc"] for values in scores]
    assert (found.tuned, found.untuned, found.num_scans) == (*aucs, 2)
    assert found.difference == PairedDifference.of_draws(aucs[0] - aucs[1], *draws)
    # Both scans of the test fold are of one patient: there is nothing to draw from.
    path = training.settings.tables_dir / "folds.parquet"
    pd.read_parquet(path).assign(patient_hash="ab").to_parquet(path)
    found = training.compare(tuned, untuned, metric="auc", reference=None, num_bootstraps=50, seed=3)
    assert found.difference.num_bootstraps == 0


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0.01, 0.2), "better"),
        ((-0.2, -0.01), "worse"),
        ((-0.1, 0.1), "not clearly better or worse"),
        ((0.0, 0.1), "not clearly better or worse"),
        ((float("nan"), float("nan")), "not clearly better or worse"),
    ],
)
def test_a_comparison_says_what_it_found(bounds, words):
    difference = PairedDifference(difference=0.05, lower=bounds[0], upper=bounds[1], num_bootstraps=1000)
    found = TunedComparison(metric="cpm", test_fold=3, num_scans=89, tuned=0.85, untuned=0.8, difference=difference)
    assert str(found).startswith(
        "On fold 3, which neither has seen (89 scans): CPM 0.8500 with the winner, 0.8000 with the recipe as it is; "
        "+0.0500 ["
    )
    assert str(found).endswith(f"(1000 draws): {words}. Research use only.")
    assert json.loads(json.dumps(found.as_dict()))["in_words"] == words


def test_what_is_compared_are_the_candidates_of_the_test_fold_alone(training, small_config):
    tuned = load_checkpoint(training.run(small_config, best_epoch=1, prefix="tuned").path)
    elsewhere = training.index["fold"] != 0
    other = training.index.assign(**{"class": training.index["class"].mask(elsewhere, 0)})
    for index in (training.index, other):
        found = replace(training, index=index).compare(
            tuned, tuned, metric="auc", reference=None, num_bootstraps=20, seed=0
        )
        assert found.tuned == found.untuned
        assert found.difference.difference == 0
        assert found.difference.in_words == "not clearly better or worse"
