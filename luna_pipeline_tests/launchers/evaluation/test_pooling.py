"""Pooled predictions: included models, models left out, and errors."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.datasets.splits import index_fingerprint
from luna_pipeline.core.training.checkpoints import load_checkpoint, save_checkpoint
from luna_pipeline.launchers.cross_validation import pooled_folds, read_current
from luna_pipeline.launchers.evaluation.pooling import check_of_these_folds, pooled_predictions
from luna_pipeline.launchers.installation import read_table
from luna_pipeline_tests.launchers.evaluated import NODULE_CLASSIFIER, evaluated, evaluated_source

__all__ = ["evaluated", "evaluated_source"]
OTHER = "other_classifier"


def add_model(evaluated, fold: int, **facts) -> None:
    """Add the scores of another network to a fold."""
    for name, changes in (("nodule_predictions", {}), ("nodule_models", facts)):
        table = read_table(evaluated.settings, name, fold)
        rows = table[table["model"] == NODULE_CLASSIFIER].assign(model=OTHER, **changes)
        evaluated.write_table(f"{name}/{fold}", pd.concat([table, rows]))


def test_folds_are_put_together_candidate_by_candidate(evaluated):
    pooled = evaluated.pooled
    assert pooled.folds.title == "folds 0, 1 of 4"
    assert pooled.folds.versions == "0.0.1-fold0, 0.0.1-fold1"
    network = pooled.predictions[pooled.predictions["model"] == NODULE_CLASSIFIER]
    assert network["candidate_id"].is_unique
    assert network["fold"].value_counts().to_dict() == {0: 10, 1: 10}
    assert pooled.left_out == {}


def test_a_model_of_fewer_folds_cannot_stand_beside_the_others(evaluated):
    add_model(evaluated, 0)
    pooled = evaluated.pooled
    assert pooled.left_out == {OTHER: f"{OTHER} has not scored all of these folds, and is left out."}
    assert OTHER not in set(pooled.predictions["model"]) | set(pooled.models["model"])


@pytest.mark.parametrize(("digests", "is_left_out"), [(("a", "a"), False), (("a", "b"), True)])
def test_a_model_of_several_recipes_is_none(evaluated, digests, is_left_out):
    for fold, digest in enumerate(digests):
        add_model(evaluated, fold, recipe_digest=digest)
    assert (OTHER in evaluated.pooled.left_out) == is_left_out
    assert (OTHER in set(evaluated.pooled.predictions["model"])) != is_left_out


def test_predictions_of_another_version_or_none_are_refused(evaluated):
    current = read_current(evaluated.settings, NODULE_CLASSIFIER, 1)
    replace(current, version="0.0.2-fold1").write(evaluated.settings)
    with pytest.raises(ValueError, match=r"0.0.2-fold1, got those of 0.0.1-fold1 .*of fold 1 again"):
        pooled_predictions(evaluated.settings, NODULE_CLASSIFIER)
    (evaluated.settings.tables_dir / "nodule_models/1.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"got no 1.parquet .*Materialize `nodule_predictions` of fold 1 first"):
        pooled_predictions(evaluated.settings, NODULE_CLASSIFIER)


def test_predictions_and_models_of_two_runs_are_refused(evaluated):
    add_model(evaluated, 1)
    models = read_table(evaluated.settings, "nodule_models", 1)
    evaluated.write_table("nodule_models/1", models[models["model"] != OTHER])
    with pytest.raises(ValueError, match=r"got other_classifier in one of them \(nodule_predictions of fold 1\)"):
        pooled_predictions(evaluated.settings, NODULE_CLASSIFIER)


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.assign(fingerprint="0" * 64),
        lambda index: index.assign(**{"class": 1 - index["class"]}),
        lambda index: index.iloc[1:],
    ],
)
def test_predictions_of_other_cutouts_labels_or_candidates_than_those_of_today_are_refused(evaluated, change):
    evaluated.write_table("cutout_index", change(read_table(evaluated.settings, "cutout_index")))
    with pytest.raises(ValueError, match=r"of the current cutouts, got those of others \(nodule_predictions of fold 0"):
        pooled_predictions(evaluated.settings, NODULE_CLASSIFIER)


def test_models_that_are_older_than_the_cutouts_they_are_scored_on_are_named(evaluated):
    assert (evaluated.pooled.older, evaluated.pooled.notes, evaluated.pooled.footnote) == ((), [], "")
    for fold in (0, 1):
        add_model(evaluated, fold)
        current = read_current(evaluated.settings, NODULE_CLASSIFIER, fold)
        replace(current, index_digest="older").write(evaluated.settings)
        # Of this one only one fold is older, and of the next one nothing is recorded.
        digest = {0: "older", 1: index_fingerprint(read_table(evaluated.settings, "cutout_index"))}[fold]
        models = read_table(evaluated.settings, "nodule_models", fold)
        is_rule = models["model"] == "zero_rule_baseline"
        evaluated.write_table(f"nodule_models/{fold}", models.assign(index_digest=np.where(is_rule, digest, None)))
    assert set(evaluated.pooled.older) == {NODULE_CLASSIFIER, "zero_rule_baseline"}
    assert f"{NODULE_CLASSIFIER} was trained on other cutouts than the current ones" in " ".join(evaluated.pooled.notes)
    assert evaluated.pooled.footnote.endswith("trained on older cutouts")
    assert evaluated.pooled.footnote_of("middle_hu") == ""
    assert (
        evaluated.pooled.footnote_of(NODULE_CLASSIFIER, "middle_hu") == f"{NODULE_CLASSIFIER} trained on older cutouts"
    )


def test_scores_of_sampled_candidates_are_marked_wherever_they_are_shown(evaluated):
    assert evaluated.pooled.sample == evaluated.pooled.note_of(NODULE_CLASSIFIER) == ""
    evaluated.sample_candidates()
    for fold in (0, 1):
        current = read_current(evaluated.settings, NODULE_CLASSIFIER, fold)
        replace(current, index_digest="older").write(evaluated.settings)
    pooled, mark = evaluated.pooled, "sampled candidates, not comparable"
    # Of two of the four folds, with two series each.
    assert pooled.notes[0].startswith("Sampled candidates, not comparable: 20 of 24 candidates of these scans. False")
    assert pooled.footnote == f"{mark}; {NODULE_CLASSIFIER} trained on older cutouts"
    assert pooled.footnote_of("middle_hu") == mark
    noted = pooled.noted(pd.DataFrame({"model": [NODULE_CLASSIFIER, "middle_hu"]}))
    assert noted["notes"].tolist() == [f"{mark}; trained on older cutouts", mark]
    assert set(noted["classifier_versions"]) == {"0.0.1-fold0, 0.0.1-fold1"}


def test_tables_of_models_of_earlier_versions_record_no_index(evaluated):
    models = read_table(evaluated.settings, "nodule_models", 0)
    evaluated.write_table("nodule_models/0", models.drop(columns="index_digest"))
    assert evaluated.pooled.older == ()


def test_a_classifier_that_has_seen_its_fold_is_found_when_folds_are_pooled(evaluated):
    path = evaluated.settings.home / read_current(evaluated.settings, NODULE_CLASSIFIER, 0).path
    save_checkpoint(path, replace(load_checkpoint(path), validation_series=["1.2.4"]))
    with pytest.raises(ValueError, match=r"series that it has seen, got 1 \(the first 1.2.4 of fold 0"):
        pooled_predictions(evaluated.settings, NODULE_CLASSIFIER)


def test_a_table_of_other_classifiers_is_named(evaluated):
    pooled = pooled_folds(evaluated.settings, NODULE_CLASSIFIER)
    check_of_these_folds(pd.DataFrame({"classifier_versions": [pooled.versions]}), pooled, "nodule_froc")
    check_of_these_folds(pd.DataFrame({"classifier_versions": []}), pooled, "nodule_froc")
    old = pd.DataFrame({"classifier_versions": ["0.0.1-fold0"]})
    with pytest.raises(ValueError, match=r"got 0.0.1-fold0 \(nodule_froc\). Materialize `nodule_froc` again"):
        check_of_these_folds(old, pooled, "nodule_froc")
