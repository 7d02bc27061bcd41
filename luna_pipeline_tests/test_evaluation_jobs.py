"""Evaluation through Dagster: scores, reports, champion, and the checks that no leak gets past."""

import json
import re

import dagster as dg
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from luna_pipeline.assets.sources import REFERENCE_SOURCES
from luna_pipeline.cli import cli
from luna_pipeline.core.storage.columns import describe_column
from luna_pipeline.jobs.demo_summary import summary_of
from luna_pipeline.jobs.fold_jobs import NODULE_REPORTS
from luna_pipeline.settings import Settings
from luna_pipeline_tests.installation import Luna
from luna_pipeline_tests.prepared import CUT, INGEST
from luna_pipeline_tests.reads import not_upstream, record_reads

TRAINING = {"ops": {"nodule_classifier": {"config": {"recipe": "demo", "epochs": 1, "batch_size": 8, "folds": [0, 1]}}}}
DRAWS = {"ops": {"nodule_report": {"config": {"num_bootstraps": 50}}}}
TITLE = "folds 0, 1 of 3"
MODELS = {"nodule_classifier", "zero_rule_baseline", "middle_hu", "logistic_regression", "gradient_boosting"}


FIRST = (INGEST, CUT, ("train_nodule_classifier", TRAINING))


@pytest.fixture
def trained(luna_after) -> Luna:
    """An installation with classifiers and baselines of two folds."""
    return luna_after(*FIRST)


@pytest.fixture
def evaluated(luna_after) -> Luna:
    """The same after the job `evaluate`."""
    return luna_after(*FIRST, ("evaluate", DRAWS))


def metadata_of(luna: Luna, asset: str) -> dict:
    event = luna.instance.get_latest_materialization_event(dg.AssetKey(asset))
    return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    events = [e for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"]
    found = [event.asset_check_evaluation_data for event in events]
    return {evaluation.check_name: evaluation.description for evaluation in found if not evaluation.passed}


def test_pooled_folds_are_scored_reported_ranked_and_may_become_champion(evaluated: Luna):
    froc, board = evaluated.table("nodule_froc"), evaluated.table("leaderboard")
    assert set(froc["model"]) == set(board["model"]) == MODELS
    assert set(froc["folds"]) == set(board["folds"]) == {TITLE}
    assert list(board["cpm"]) == sorted(froc["cpm"], reverse=True)
    for asset in ("nodule_froc", "nodule_report", "nodule_calibration", "nodule_errors"):
        pictures = re.findall(r"base64,([^)]*)", str(metadata_of(evaluated, asset)))
        assert [len(picture) < 100_000 for picture in pictures] == [True], asset
        assert metadata_of(evaluated, asset)["data"] == "synthetic phantom"
    for path in evaluated.settings.tables_dir.rglob("*.parquet"):
        assert [name for name in pd.read_parquet(path).columns if describe_column(name) is None] == [], path
    told = summary_of(evaluated.instance, Settings.from_environment()).splitlines()
    first = told.index(f"Untouched test folds: {TITLE} (a synthetic phantom; research use only; 95 % intervals):") + 1
    assert [line.split()[1] for line in told[first : first + 5]] == list(board["model"])
    assert f"CPM {board['cpm'].iloc[0]:.3f} [" in told[first]
    (run,) = evaluated.instance.get_runs(dg.RunsFilter(job_name="evaluate"))
    entries = [entry for entry in evaluated.instance.all_logs(run.run_id) if entry.step_key == "nodule_report"]
    cpm = froc.set_index("model").loc["nodule_classifier", "cpm"]
    score = [entry.user_message for entry in entries if entry.dagster_event is None][-1]
    assert score.startswith(f"CPM {cpm:.3f} [")
    (made,) = [
        entry.dagster_event for entry in entries if entry.dagster_event and entry.dagster_event.is_successful_output
    ]
    assert made.step_output_data.metadata["cpm"].value == cpm
    log = EventAccumulator(str(evaluated.settings.local_home / "tensorboard/nodule_classifier/0.0.1-fold1")).Reload()
    assert log.Tags()["images"] == ["test/errors"]
    champion = evaluated.run("promote", run_config={"ops": {"champion": {"config": {"max_calibration_error": 1.0}}}})
    assert champion.success
    client = MlflowClient(evaluated.settings.mlflow_tracking_uri)
    aliases = client.get_registered_model("nodule_classifier").aliases
    # Whether a network of one epoch is good enough is not what this is about.
    is_promoted = "becomes the champion over none" in metadata_of(evaluated, "champion")["outcome"]
    assert is_promoted == ("champion" in aliases)
    assert list(failed_checks(champion)) == ([] if is_promoted else ["may_be_champion"])
    for version in client.search_model_versions("name='nodule_classifier'"):
        assert version.description.startswith(f"# Model card: {version.tags['checkpoint']}")


def test_every_table_and_checkpoint_that_an_asset_reads_is_upstream_of_it(evaluated: Luna, monkeypatch):
    uids = "\n".join(evaluated.table("folds")["series_instance_uid"])
    (evaluated.data / "seriesuids.csv").write_text(f"seriesuid\n{uids}\n")
    rows = evaluated.table("folds")[["series_instance_uid", "fold"]]
    rows.to_csv(evaluated.data / "luna16_subsets.csv", index=False, header=["seriesuid", "subset"])
    reads = record_reads(monkeypatch)
    for job in ("ingest", "cut", "index"):
        assert evaluated.run(job).success, job
    of_a_fold = ["zero_rule_baseline", "feature_baseline", "nodule_predictions"]
    assert evaluated.make(*of_a_fold, partition_key="0").success
    draws = {name: {"config": {"num_bootstraps": 20}} for name in ("nodule_froc", "nodule_report")}
    assert evaluated.make(*NODULE_REPORTS, run_config={"ops": draws}).success
    evaluated.run("promote")
    assert not_upstream(reads) == {}
    # What was not recorded would never be missing.
    assert reads["nodule_froc"] == {
        *REFERENCE_SOURCES,
        "candidates",
        "cutout_index",
        "folds",
        "nodule_classifier",
        "nodule_predictions",
    }
    assert reads["folds"] == {"luna16_subsets"}
    assert reads["nodule_predictions"] >= {"feature_baseline", "folds"}
    assert set(reads) >= {"candidates", "cutouts", "cutout_index", "feature_baseline", "champion", *NODULE_REPORTS}


def test_classifiers_that_are_older_than_the_cutouts_are_named_in_run_reports_and_leaderboard(evaluated: Luna, capsys):
    for fold in (0, 1):
        pointer = f"checkpoints/nodule_classifier/current_{fold}.json"
        older = {**evaluated.read_json(pointer), "index_digest": "0" * 64}
        evaluated.write(pointer, json.dumps(older).encode())
    assert evaluated.run("evaluate", run_config=DRAWS).success
    said = "was trained on other cutouts than the current ones, on which it is scored."
    log = capsys.readouterr().err
    for model in ("0.0.1-fold0", "0.0.1-fold1", "nodule_classifier"):
        assert f"{model} {said}" in log
    for asset in ("nodule_predictions", "nodule_froc", "nodule_report", "nodule_calibration", "leaderboard"):
        assert said in metadata_of(evaluated, asset)["notes"], asset
    notes = evaluated.table("leaderboard").set_index("model")["notes"]
    assert notes[notes != ""].to_dict() == {"nodule_classifier": "trained on older cutouts"}
    assert "trained on older cutouts" in summary_of(evaluated.instance, Settings.from_environment())
    assert said in evaluated.table("nodule_model_cards")["card"].iloc[0]


def test_the_score_is_that_of_the_command_on_the_submission(evaluated: Luna, tmp_path):
    folds = evaluated.table("folds")
    scans = folds.loc[folds["fold"].isin([0, 1]), "series_instance_uid"]
    (tmp_path / "scans.csv").write_text("\n".join(scans))
    (tmp_path / "submission.csv").write_bytes(evaluated.read("submissions/nodule_classifier/folds_0_1_of_3.csv"))
    done = CliRunner().invoke(
        cli,
        [
            "evaluate_froc",
            "--annotations",
            str(evaluated.data / "annotations.csv"),
            "--excluded",
            str(evaluated.data / "annotations_excluded.csv"),
            "--series",
            str(tmp_path / "scans.csv"),
            "--predictions",
            str(tmp_path / "submission.csv"),
            "--json",
            str(tmp_path / "o.json"),
        ],
    )
    assert done.exit_code == 0, done.output
    row = evaluated.table("nodule_froc").set_index("model").loc["nodule_classifier"]
    assert pd.read_json(tmp_path / "o.json", typ="series")["cpm"] == pytest.approx(row["cpm"], abs=1e-15)


def test_a_patient_in_training_and_test_stops_the_predictions_and_is_named(trained: Luna):
    folds = trained.table("folds")
    trained.write("tables/folds.parquet", folds.assign(patient_hash="ab" * 32).to_parquet())
    result = trained.make("nodule_predictions", partition_key="0", raise_on_error=False)
    assert not result.success
    assert list(failed_checks(result)) == ["no_leak"]
    assert "abababababab" in failed_checks(result)["no_leak"]
    assert not trained.has("tables/nodule_predictions")
    assert trained.partitions("nodule_predictions") == set()


def test_the_same_ct_under_two_names_in_two_folds_stops_the_index_and_is_named(luna: Luna):
    uid = sorted(path.stem for path in (luna.data / "subset0").glob("*.mhd"))[0]
    for suffix in (".mhd", ".raw"):
        content = (luna.data / "subset0" / f"{uid}{suffix}").read_bytes()
        (luna.data / "subset1" / f"9.9{suffix}").write_bytes(content.replace(f"{uid}.raw".encode(), b"9.9.raw"))
    luna.edit(
        "candidates_V2.csv", lambda rows: pd.concat([rows, rows[rows["seriesuid"] == uid].assign(seriesuid="9.9")])
    )
    assert luna.run("ingest").success
    assert luna.run("cut").success
    result = luna.run("index")
    assert not result.success
    assert list(failed_checks(result)) == ["no_cutout_in_two_folds"]
    said = failed_checks(result)["no_cutout_in_two_folds"]
    assert f"(series {uid}, fold 0)" in said
    assert "(series 9.9, fold 1)" in said
    assert not luna.has("tables/cutout_index.parquet")
