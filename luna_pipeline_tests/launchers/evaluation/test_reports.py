"""Subgroups, reliability, error sheets and model cards of pooled folds."""

import io

import numpy as np
from mlflow import MlflowClient
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from luna_pipeline.core.evaluation.report import binary_report
from luna_pipeline.launchers.evaluation.official_scores import official_scores, pooled_checkpoints
from luna_pipeline.launchers.evaluation.reports import (
    CARD_COLUMNS,
    errors_of,
    model_cards,
    reliability_of,
    subgroups_of,
)
from luna_pipeline_tests.launchers.evaluated import NODULE_CLASSIFIER, evaluated, evaluated_source

__all__ = ["evaluated", "evaluated_source"]


def test_subgroups_know_diameter_slices_and_scanner(evaluated):
    table = subgroups_of(evaluated.settings, evaluated.pooled)
    own = table[table["model"] == NODULE_CLASSIFIER].set_index(["kind", "group"])
    assert own.loc[("diameter", "< 6 mm"), "num_nodules"] == 8
    assert own.loc[("slice_spacing", "> 2 to 2.5 mm"), "num_candidates"] == 20
    assert own.loc[("manufacturer", "Maker"), "num_series"] == 4
    # MetaImage files have no slice thickness.
    assert set(table["kind"]) == {"diameter", "slice_spacing", "manufacturer"}


def test_subgroups_know_texture_where_a_source_has_readers(evaluated):
    nodules = evaluated.pooled.predictions.query("`class` == 1").drop_duplicates("candidate_id")
    place = nodules[["series_instance_uid", "x_mm", "y_mm", "z_mm"]].assign(diameter_mm=2.0)
    readers = place.assign(nodule=range(len(place)), texture=5, calcification=6)
    path = evaluated.settings.tables_dir / "reader_nodules.parquet"
    readers.astype({"series_instance_uid": str}).to_parquet(path)
    try:
        table = subgroups_of(evaluated.settings, evaluated.pooled)
    finally:
        path.unlink()
    own = table[table["model"] == NODULE_CLASSIFIER].set_index(["kind", "group"])
    assert own.loc[("texture", "solid"), "num_nodules"] == own.loc[("calcification", "not calcified"), "num_nodules"]
    assert own.loc["texture"].index.tolist() == ["solid", "non-nodule"]


def test_reliability_is_of_each_model_and_of_calibrated_scores_where_all_have_one(evaluated):
    table = reliability_of(evaluated.pooled.predictions)
    kinds = table.groupby("model")["kind"].unique().map(set).to_dict()
    both = {"as scored", "calibrated on validation"}
    assert kinds == {NODULE_CLASSIFIER: both, "middle_hu": {"as scored"}, "zero_rule_baseline": {"as scored"}}
    assert (table.groupby(["model", "kind"])["count"].sum() == 20).all()


def test_errors_are_drawn_and_stand_in_the_log_of_each_folds_training(evaluated):
    png = errors_of(evaluated.settings, evaluated.pooled, NODULE_CLASSIFIER, evaluated.home.store, positives="nodules")
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.width > 100
    client = MlflowClient(evaluated.settings.mlflow_tracking_uri)
    for fold, checkpoint in pooled_checkpoints(evaluated.settings, evaluated.pooled):
        log = EventAccumulator(str(evaluated.settings.home / f"tensorboard/nodule_classifier/0.0.1-fold{fold}"))
        (shown,) = log.Reload().Images("test/errors")
        with Image.open(client.download_artifacts(checkpoint.mlflow_run_id, "test/errors.png")) as picture:
            assert picture.size == (shown.width, shown.height)


def test_a_card_says_once_that_the_candidates_are_a_sample(evaluated):
    evaluated.sample_candidates()
    pooled = evaluated.pooled
    report, subgroups = binary_report(pooled.predictions, num_bootstraps=0), subgroups_of(evaluated.settings, pooled)
    cards = model_cards(evaluated.settings, pooled, report=report, subgroups=subgroups, store=evaluated.home.store)
    assert [card.count("Sampled candidates, not comparable") for card in cards["card"]] == [1, 1]


def test_each_version_has_a_card_in_its_run_and_in_the_registry(evaluated):
    pooled = evaluated.pooled
    froc = official_scores(evaluated.settings, pooled, num_bootstraps=20, seed=0).table
    cards = model_cards(
        evaluated.settings,
        pooled,
        report=binary_report(pooled.predictions, num_bootstraps=20),
        subgroups=subgroups_of(evaluated.settings, pooled),
        froc=froc,
        store=evaluated.home.store,
    )
    assert tuple(cards.columns) == CARD_COLUMNS
    assert list(cards["version"]) == ["0.0.1-fold0", "0.0.1-fold1"]
    client = MlflowClient(evaluated.settings.mlflow_tracking_uri)
    for row in cards.itertuples():
        registered = client.get_model_version(NODULE_CLASSIFIER, row.registered_version)
        assert registered.run_id == row.mlflow_run_id
        assert registered.description == row.card
    card = cards["card"].iloc[0]
    cpm = froc.set_index("model").loc[NODULE_CLASSIFIER, "cpm"]
    for words in (
        f"CPM | {cpm:.3f}",
        "folds 0, 1 of 4",
        "| training | folds 2, 3 of 4 | 4 | 20 | 8 |",
        "| validation | fold 1 of 4 | 2 | 10 | 4 |",
        "| test | fold 0 of 4 | 2 | 10 | 4 |",
        "No leak found",
        "Research use only",
    ):
        assert words in card, words
    assert not np.isnan(cpm)
