"""A study in Dagster: job, tables, plots, and the winner on the leaderboard next to the classifier of the recipe."""

import json
import re

import dagster as dg
import pytest

from luna_pipeline.assets.tuning_config import TuningConfig
from luna_pipeline_tests.prepared import CUT, INGEST
from luna_pipeline_tests.reads import not_upstream, record_reads
from luna_pipeline_tests.test_evaluation_jobs import DRAWS, metadata_of

POINTER = "checkpoints/tuned_nodule_classifier/current_0.json"
PLACES = {"optimizer.learning_rate": {"choices": [0.002, 0.00001]}}
STUDY = {"recipe": "demo", "epochs": 1, "search": "grid", "scheduler": "none", "places": PLACES, "num_bootstraps": 20}
TRAINING = {"ops": {"nodule_classifier": {"config": {"recipe": "demo", "epochs": 1, "batch_size": 8}}}}


@pytest.mark.slow
def test_the_job_tune_searches_for_a_fold_and_its_winner_is_scored_like_any_other_model(luna_after, monkeypatch):
    luna = luna_after(INGEST, CUT)
    reads = record_reads(monkeypatch)
    for job, config in [
        ("tune", {"ops": {"tuning_study": {"config": STUDY}}}),
        ("train_nodule_classifier", TRAINING),
        ("evaluate", DRAWS),
    ]:
        assert luna.run(job, run_config=config).success, job
    assert not_upstream(reads) == {}
    assert reads["tuning_study"] >= {"annotations", "folds"}
    table = luna.table("tuning_study/0")
    assert list(table["trial"]) == [0, 1, 2]
    assert list(table["optimizer.learning_rate"]) == [0.001, 0.002, 0.00001]
    pointer = luna.read_json(POINTER)
    assert pointer["version"] == "0.0.1-fold0"
    board = luna.table("leaderboard").set_index("model")
    assert {"tuned_nodule_classifier", "nodule_classifier"} <= set(board.index)
    assert board.loc["tuned_nodule_classifier", "versions"] == "0.0.1-fold0"

    shown = metadata_of(luna, "tuning_study")
    assert shown["conclusion"].endswith("Research use only.")
    assert shown["data"] == "synthetic phantom"
    assert {"rank", "trial", "state"} <= set(shown["trials"].records[0].data)
    for name in ("parallel_coordinates", "importance"):
        (picture,) = re.findall(r"base64,([^)]*)", str(shown[name]))
        assert len(picture) < 100_000, name
    assert "/runs/" in shown["mlflow_run"]

    # A winner trained on another cutout index is left out of the evaluation.
    edited = {**pointer, "index_digest": "0" * 64}
    luna.write(POINTER, json.dumps(edited).encode())
    assert luna.run("evaluate", run_config=DRAWS).success
    assert "tuned_nodule_classifier" not in set(luna.table("leaderboard")["model"])


def test_a_study_of_malignancy_is_no_partition_of_this_asset(luna):
    config = {"ops": {"tuning_study": {"config": {**STUDY, "recipe": "demo_malignancy", "metric": "auc"}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match=r"recipe not in enum type one of .*nodule_baseline"):
        luna.run("tune", run_config=config)


def test_the_launchpad_becomes_a_study():
    config = TuningConfig(recipe="demo", version="1.2.3", changes={"batch_size": 4}, trials=5, space="network")
    study = config.study(test_fold=3)
    assert study.base.version == "1.2.3-fold3"
    assert study.base.batch_size == 4
    assert (study.searcher, study.num_trials, study.metric) == ("random", 5, "cpm")
    assert set(study.space.domains) >= {"network.name", "loss.name"}
    places = TuningConfig(recipe="demo", search="grid", places=PLACES).study(test_fold=0)
    assert [variant.changes for variant in places.variants()] == [
        {},
        {"optimizer.learning_rate": 0.002},
        {"optimizer.learning_rate": 0.00001},
    ]
    assert TuningConfig(cpus_per_trial=2, max_concurrent=3).resources().max_concurrent == 3
