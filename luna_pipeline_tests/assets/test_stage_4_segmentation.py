"""The segmenter as an asset, trained for one test fold of a small phantom."""

import dagster as dg
import pytest
from mlflow import MlflowClient

from luna_pipeline_tests.prepared import INGEST

SMALL = {"network.n_blocks": 3, "network.conv_channels": 2, "network.chunk_shape_irc": [16, 32, 32]}
CONFIG = {"recipe": "demo_segmenter", "epochs": 2, "changes": SMALL}


def of_segmenter(**values) -> dict:
    return {"ops": {"nodule_segmenter": {"config": {**CONFIG, **values}}}}


@pytest.fixture
def luna(luna_after):
    return luna_after(INGEST)


def test_a_segmenter_is_trained_without_cutouts_and_shows_how_good_it_is(luna):
    assert luna.run("train_nodule_segmenter", run_config=of_segmenter()).success
    assert luna.partitions("nodule_segmenter") == {"0"}
    folds = luna.table("folds").set_index("series_instance_uid")["fold"]
    checkpoint = luna.checkpoint("nodule_segmenter", "0.0.1-fold0")
    assert set(folds[[*checkpoint.training_series]]) == {2}
    assert set(folds[[*checkpoint.validation_series]]) == {1}
    event = luna.instance.get_latest_materialization_event(dg.AssetKey("nodule_segmenter")).asset_materialization
    shown = {name: entry.value for name, entry in event.metadata.items()}
    assert 0 <= shown["dice"] <= 1
    assert 0 <= shown["lesion_recall"] <= 1
    assert shown["false_candidates_per_scan"] >= 0
    assert (shown["version"], shown["epochs"], shown["data"]) == ("0.0.1-fold0", 2, "synthetic phantom")
    for name in ("slices", "curves"):
        assert "data:image/png;base64," in shown[name], name
    # Dagster's pages cut texts that are longer.
    assert len(shown["slices"]) < 100_000
    run_id, training = checkpoint.mlflow_run_id, "workflowType=machine_learning"
    assert shown["mlflow_run"] == f"http://127.0.0.1:8080/#/experiments/1/runs/{run_id}?{training}"
    assert shown["mlflow_model"] == f"http://127.0.0.1:8080/#/models/nodule_segmenter/versions/1?{training}"
    assert shown["tensorboard_page"].startswith("http://127.0.0.1:6006/?runFilter=")
    client = MlflowClient(luna.settings.mlflow_tracking_uri)
    pictures = {it.path for it in client.list_artifacts(run_id, "pictures")}
    slices = {f"pictures/validation_slices_epoch_00{epoch}.png" for epoch in (1, 2)}
    assert pictures == {"pictures/training_curves.png", *slices}
    assert client.get_run(run_id).data.tags["dagster_job"] == "train_nodule_segmenter"
    assert luna.read_json("checkpoints/nodule_segmenter/current_0.json")["version"] == "0.0.1-fold0"


def test_a_recipe_of_another_model_is_refused(luna):
    with pytest.raises(dg.DagsterInvalidConfigError, match="recipe not in enum type one of segmenter_baseline"):
        luna.run("train_nodule_segmenter", run_config=of_segmenter(recipe="demo"))
