"""The chain end to end, in one process, on a small phantom: every job, every asset, the failures too."""

import io
import shutil
from pathlib import Path, PurePath

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.phantom.dataset import make_phantom
from luna_pipeline.core.storage.files import content_of
from luna_pipeline.partitions import CT_SERIES_NAME, TEST_FOLD_NAME, versions_by_series
from luna_pipeline.runs.launch_checks import ConfigValueError
from luna_pipeline_tests.installation import Luna
from luna_pipeline_tests.prepared import CUT, INDEX, INGEST
from luna_pipeline_tests.reads import not_upstream, record_reads

SIZE_IRC = (48, 64, 64)
SHORT = {"epochs": 1, "batch_size": 8}
# Few draws for the intervals; what they are is tested where they are made.
DRAWS = {"nodule_report": {"config": {"num_bootstraps": 20}}}
EVALUATION = {"ops": DRAWS}
TRAINING = {"ops": {"nodule_classifier": {"config": {"recipe": "demo", **SHORT}}}}


def of_nodules(**values) -> dict:
    """Configuration of a training of nodule classifiers, with one feature baseline next to them."""
    baseline = {"estimators": ["logistic_regression"]}
    classifier = {"recipe": "demo", **SHORT, **values}
    return {"ops": {"nodule_classifier": {"config": classifier}, "feature_baseline": {"config": baseline}}}


def of_malignancy(**values) -> dict:
    source = {"start_name": "nodule_classifier", "start_version": "0.0.1"}
    config = {"recipe": "demo_malignancy", **SHORT, **source, **values}
    return {"ops": {"malignancy_classifier": {"config": config}}}


def expected_candidates(luna: Luna, fold: int) -> list[int]:
    index = luna.table("cutout_index")
    return sorted(index.loc[(index["fold"] == fold) & (index["source"] == "candidate"), "candidate_id"])


def test_chain_makes_every_asset_and_scores_the_untouched_fold(luna: Luna):
    for job, config in [("ingest", {}), ("cut", {}), ("train_nodule_classifier", TRAINING), ("evaluate", EVALUATION)]:
        result = luna.run(job, run_config=config)
        assert result.success, job
        assert "STEP_SKIPPED" not in {event.event_type_value for event in result.all_events}, job
    predictions = luna.table("nodule_predictions/0")
    folds = luna.table("folds").set_index("series_instance_uid")["fold"]
    assert set(folds[predictions["series_instance_uid"]]) == {0}
    network = predictions[predictions["model"] == "nodule_classifier"]
    assert sorted(network["candidate_id"]) == expected_candidates(luna, 0)
    assert len(luna.cutout_files) == 6
    assert set(luna.table("nodule_report")["model"]) == {
        "zero_rule_baseline",
        "middle_hu",
        "logistic_regression",
        "gradient_boosting",
        "nodule_classifier",
    }
    checkpoint = luna.read_json("checkpoints/nodule_classifier/current_0.json")
    assert luna.has(checkpoint["path"])
    import mlflow

    client = mlflow.MlflowClient(luna.settings.mlflow_tracking_uri)
    run = client.search_runs([client.get_experiment_by_name("luna_pipeline").experiment_id])[0]
    assert run.info.status == "FINISHED"
    assert "test/auc" in run.data.metrics
    assert (run.data.tags["luna.test_fold"], run.data.tags["luna.validation_fold"]) == ("0", "1")
    assert client.search_model_versions("name='nodule_classifier'")[0].run_id == run.info.run_id


def test_two_of_three_folds_are_pooled_and_predictions_of_another_version_are_refused(luna_after):
    luna = luna_after(INGEST, CUT)
    for job, config in [
        ("train_nodule_classifier", of_nodules(folds=[1, 0])),
        ("evaluate", EVALUATION),
    ]:
        assert luna.run(job, run_config=config).success, job
    for asset in ("nodule_classifier", "zero_rule_baseline", "feature_baseline", "nodule_predictions"):
        assert luna.partitions(asset) == {"0", "1"}, asset
    for fold in (0, 1):
        for _, rows in luna.table(f"nodule_predictions/{fold}").groupby("model"):
            assert sorted(rows["candidate_id"]) == expected_candidates(luna, fold)
        models = luna.table(f"nodule_models/{fold}").set_index("model")
        assert models.loc["nodule_classifier", "version"] == f"0.0.1-fold{fold}"
        submission = pd.read_csv(content_of(luna.file(f"submissions/nodule_classifier/{fold}.csv")))
        assert len(submission) == len(expected_candidates(luna, fold))
    report = luna.table("nodule_report")
    assert set(report["folds"]) == {"folds 0, 1 of 3"}
    assert set(report["num_candidates"]) == {len(expected_candidates(luna, 0)) + len(expected_candidates(luna, 1))}
    event = luna.instance.get_latest_materialization_event(dg.AssetKey("nodule_report")).asset_materialization
    assert event.metadata["folds"].value == "folds 0, 1 of 3"

    assert luna.run("train_nodule_classifier", run_config=of_nodules(folds=[0])).success
    refused = luna.make("nodule_report", raise_on_error=False)
    assert not refused.success
    (failure,) = [event.step_failure_data.error for event in refused.all_events if event.is_step_failure]
    assert "0.0.1-fold0+1, got those of 0.0.1-fold0 (nodule_predictions). Materialize" in failure.cause.message
    # A fold of another recipe is left out.
    assert luna.run("train_nodule_classifier", run_config=of_nodules(folds=[1], seed=7)).success
    assert luna.run("evaluate", run_config=EVALUATION).success
    assert set(luna.table("nodule_report")["folds"]) == {"fold 1 of 3"}


def test_cross_validation_trains_every_fold_and_takes_malignancy_along(luna: Luna, monkeypatch):
    reads = record_reads(monkeypatch)
    # The few nodules of the small phantom are benign in most folds; here every other one is malignant.
    luna.edit(
        "annotations_with_malignancy.csv", lambda rows: rows.assign(is_malignant=[i % 2 == 0 for i in range(len(rows))])
    )
    steps = {
        "ingest": {},
        "cut": {},
        "train_nodule_classifier": of_nodules(),
        "train_malignancy_classifier": of_malignancy(),
        "cross_validate": {"ops": {**of_nodules()["ops"], **DRAWS}},
    }
    for job, config in steps.items():
        assert luna.run(job, run_config=config).success, job
    assert not_upstream(reads) == {}
    assert reads["malignancy_predictions"] >= {"malignancy_feature_baseline", "folds"}
    assert set(luna.table("nodule_report")["folds"]) == {"all 3 folds"}
    assert set(luna.table("malignancy_report")["folds"]) == {"fold 0 of 3"}
    assert list(luna.table("malignancy_model_cards")["version"]) == ["0.0.1-fold0"]
    nodules, malignancy = (
        luna.checkpoint(name, "0.0.1-fold0") for name in ("nodule_classifier", "malignancy_classifier")
    )
    assert malignancy.config.frozen == "backbone"
    assert malignancy.inherited_training_series == nodules.training_series
    assert nodules.mlflow_run_id != malignancy.mlflow_run_id
    assert luna.partitions("malignancy_predictions") == {"0"}
    scores = luna.table("malignancy_predictions/0")
    assert set(scores["model"]) == {
        "malignancy_classifier",
        "zero_rule_baseline",
        "middle_hu",
        "logistic_regression",
        "gradient_boosting",
    }
    assert set(scores["series_instance_uid"]).isdisjoint(malignancy.training_series)
    index = luna.table("cutout_index").set_index("candidate_id")
    is_malignant = index.loc[scores["candidate_id"], "is_malignant"].fillna(False)
    assert scores["class"].tolist() == is_malignant.astype(int).tolist()


def test_configuration_of_resources_and_baselines_reaches_the_runs_inside(luna: Luna):
    sample = {"cutting": {"config": {"training_length": 12}}}
    assert luna.run("ingest").success
    assert luna.run("cut", run_config={"resources": sample}).success
    config = of_nodules()
    config["ops"] |= {
        "zero_rule_baseline": {"config": {"validation_fold": 2}},
        "feature_baseline": {"config": {"estimators": ["logistic_regression"], "validation_fold": 2}},
    }
    assert luna.run("train_nodule_classifier", run_config={**config, "resources": sample}).success
    assert luna.table("cutout_index").groupby("series_instance_uid", observed=True).size().max() == 12
    assert luna.table("feature_baseline_models/0")["model"].tolist() == ["logistic_regression"]


def test_training_and_evaluation_need_no_cutout_files_on_the_fly(luna_after):
    luna = luna_after(INGEST)
    cutting = {"training_length": 12, "cutouts": "on_the_fly"}
    for job, config in [("train_nodule_classifier", of_nodules()), ("evaluate", EVALUATION)]:
        assert luna.run(job, run_config={**config, "resources": {"cutting": {"config": cutting}}}).success, job
    assert luna.cutout_files == []
    computed = luna.table("cutout_index")
    stored = {"resources": {"cutting": {"config": {**cutting, "cutouts": "stored"}}}}
    assert luna.run("cut", run_config=stored).success
    assert luna.make("cutout_index", run_config=stored).success
    pd.testing.assert_frame_equal(computed, luna.table("cutout_index"))


def test_a_fold_that_the_data_do_not_have_fails(luna_after):
    luna = luna_after(INGEST, CUT, INDEX)
    num_runs = luna.instance.get_runs_count()
    with pytest.raises(ConfigValueError, match=r"A held-out fold must exist, got 7 of folds \[0, 1, 2\]."):
        luna.run("train_nodule_classifier", run_config=of_nodules(folds=[7]))
    assert luna.instance.get_runs_count() == num_runs
    # On the page there is no such partition, unless one is added by hand.
    assert luna.instance.get_dynamic_partitions(TEST_FOLD_NAME) == ["0", "1", "2"]
    luna.instance.add_dynamic_partitions(TEST_FOLD_NAME, ["7"])
    one = luna.make("zero_rule_baseline", partition_key="7", raise_on_error=False)
    (failure,) = [event.step_failure_data.error for event in one.all_events if event.is_step_failure]
    assert "A held-out fold must exist, got 7 of folds [0, 1, 2]." in failure.cause.message


def test_cut_visits_all_series_or_the_one_of_the_partition_and_records_only_news(luna: Luna):
    assert luna.run("ingest").success
    uids = sorted(luna.instance.get_dynamic_partitions(CT_SERIES_NAME))
    assert len(uids) == 6
    one = luna.run("cut", tags={"dagster/partition": uids[2]})
    assert one.success
    assert luna.cut_uids(one) == {uids[2]}
    everything = luna.run("cut")
    assert everything.success
    assert luna.cut_uids(everything) == set(uids) - {uids[2]}
    again = luna.run("cut")
    assert again.success
    assert luna.materialized_in(again) == []
    assert set(versions_by_series(luna.instance, "cutouts", uids)) == set(uids)


def test_lost_dagster_home_adopts_files_and_cuts_nothing(luna_after):
    luna = luna_after(INGEST, CUT)
    with luna.with_lost_dagster_home() as fresh:
        assert fresh.run("ingest").success
        result = fresh.run("cut")
        assert result.success
        assert fresh.cut_uids(result) == set()
        assert len(versions_by_series(fresh.instance, "cutouts", fresh.uids)) == 6


def test_unreadable_ct_costs_the_others_nothing(luna: Luna):
    broken = sorted(luna.data.rglob("*.raw"))[0]
    broken.write_bytes(broken.read_bytes()[:1000])
    assert luna.run("ingest").success
    catalogue = luna.table("ct_series")
    row = catalogue[~catalogue["is_readable"]].iloc[0]
    assert row["series_instance_uid"] == broken.stem
    assert "1000" in row["reason"]
    assert luna.run("cut").success
    assert len(luna.cutout_files) == 5


def test_deleted_and_damaged_files_are_cut_again(luna_after):
    luna = luna_after(INGEST, CUT)
    first, second, *_ = luna.cutout_files
    whole = luna.read(first)
    luna.remove(first)
    luna.write(second, luna.read(second)[:-100])
    result = luna.run("cut")
    assert result.success
    assert luna.cut_uids(result) == {PurePath(first).stem, PurePath(second).stem}
    assert luna.read(first) == whole


def test_changed_parameter_recuts_all_and_shift_refuses_thin_cts(luna_after):
    luna = luna_after(INGEST, CUT)
    config = {"resources": {"cutting": {"config": {"edge_rule": "shift"}}}}
    result = luna.run("cut", run_config=config)
    assert result.success
    assert len(luna.cut_uids(result)) == 6
    thick = {"resources": {"cutting": {"config": {"edge_rule": "shift", "chunk_shape_irc": [64, 48, 48]}}}}
    refused = luna.run("cut", run_config=thick)
    assert not refused.success


@pytest.mark.seed_defect(34)
def test_demo_fails_when_a_stage_fails(luna: Luna):
    for raw in luna.data.rglob("*.raw"):
        raw.unlink()
    result = luna.run("demo")
    assert not result.success
    failures = [event.step_key for event in result.all_events if event.is_step_failure]
    assert failures
    assert "train_on_phantom" not in [event.step_key for event in result.all_events if event.is_step_success]


def test_demo_leaves_the_data_of_others_alone(luna: Luna):
    (luna.data / "phantom.json").unlink()
    before = sorted(path.name for path in luna.data.iterdir())
    result = luna.run("demo")
    assert not result.success
    assert sorted(path.name for path in luna.data.iterdir()) == before


def test_blocking_check_stops_a_patient_in_two_folds(luna: Luna, tmp_path: Path):
    shutil.rmtree(luna.data)
    make_phantom(luna.data, num_series=6, num_subsets=3, seed=1, size_irc=SIZE_IRC, file_format="dicom")
    assert luna.run("ingest").success
    folds = luna.table("folds")
    shared = folds["patient_hash"].value_counts()
    assert shared.max() >= 2
    pair = folds[folds["patient_hash"] == shared.index[0]]["series_instance_uid"].tolist()
    uids = sorted(folds["series_instance_uid"])
    table = pd.DataFrame({"seriesuid": uids, "subset": [int(uid == pair[0]) for uid in uids]})
    table.to_csv(luna.data / "luna16_subsets.csv", index=False)
    result = luna.run("ingest")
    assert not result.success
    evaluations = [
        e.asset_check_evaluation_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    failed = {evaluation.check_name for evaluation in evaluations if not evaluation.passed}
    assert failed == {"folds_hold_series_and_patients_apart"}


def test_chunks_in_the_file_have_the_declared_form(luna_after):
    luna = luna_after(INGEST, CUT, INDEX)
    index = luna.table("cutout_index")
    for name in luna.cutout_files:
        with np.load(io.BytesIO(luna.read(name)), allow_pickle=False) as members:
            rows = index[index["series_instance_uid"] == PurePath(name).stem]
            assert members["ct_chunks"].shape == (len(rows), 32, 48, 48)
            assert members["ct_chunks"].dtype == np.int16
            assert members["ct_chunks"].min() >= -1000
            assert members["ct_chunks"].max() <= 1000
            assert set(members["candidate_id"]) == set(rows["candidate_id"])
