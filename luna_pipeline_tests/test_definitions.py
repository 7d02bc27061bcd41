"""What Dagster loads: the graph as a person sees it, and what loading costs and touches."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from luna_pipeline.asset_links import JOB_OF, linked
from luna_pipeline.definitions import defs
from luna_pipeline.jobs.asset_jobs import ASSET_JOBS
from luna_pipeline.partitions import INCOMING_SERIES, TEST_FOLDS

HEAVY = ["torch", "mlflow", "ray", "monai", "SimpleITK", "tensorboard", "pandas", "pyarrow"]

FOR_NODULES = {
    "candidates",
    "cutout_index",
    "nodule_classifier",
    "zero_rule_baseline",
    "feature_baseline",
    "folds",
    "tuned_nodule_classifier",
}
FOR_MALIGNANCY = {
    "candidates",
    "cutout_index",
    "malignancy_classifier",
    "malignancy_feature_baseline",
    "folds",
}
OF_POOLED = {"candidates", "cutout_index", "folds"}
OF_NODULES = {"nodule_predictions", "nodule_classifier", "tuned_nodule_classifier", *OF_POOLED}
OF_MALIGNANCY = {"malignancy_predictions", "malignancy_classifier", *OF_POOLED}
REFERENCE = {"annotations", "annotations_excluded", "seriesuids"}
CANDIDATE_SOURCES = {"annotations", "annotations_excluded", "candidates_v2", "malignancy_ratings"}
# Asset: (group, what it is made from). A renamed asset or a lost edge is a visible change of this table.
GRAPH = {
    "luna16_archives": ("stage_0_archives", set()),
    "ct_series": ("stage_1_ct", set()),
    "same_scans": ("stage_1_ct", {"ct_series"}),
    "annotations": ("stage_2_candidates", set()),
    "candidates_v2": ("stage_2_candidates", set()),
    "malignancy_ratings": ("stage_2_candidates", set()),
    "candidates": ("stage_2_candidates", {"ct_series", *CANDIDATE_SOURCES}),
    "rejected": ("stage_2_candidates", {"ct_series", *CANDIDATE_SOURCES}),
    "reader_nodules": ("stage_2_candidates", {"ct_series", *CANDIDATE_SOURCES}),
    "luna16_subsets": ("stage_2_candidates", set()),
    "annotations_excluded": ("stage_2_candidates", set()),
    "seriesuids": ("stage_2_candidates", set()),
    "folds": ("stage_2_candidates", {"ct_series", "luna16_subsets", "same_scans"}),
    "data_quality": ("stage_2_candidates", {"ct_series", "candidates", "folds"}),
    "cutouts": ("stage_3_cutouts", {"ct_series", "candidates"}),
    "cutout_index": ("stage_3_cutouts", {"cutouts", "ct_series", "candidates", "folds"}),
    "nodule_classifier": ("stage_4_training", {"cutout_index"}),
    "malignancy_classifier": ("stage_4_training", {"cutout_index"}),
    "nodule_segmenter": ("stage_4_training", {"ct_series", "candidates", "folds"}),
    "tuning_study": ("stage_4_training", {"cutout_index", "candidates", "folds", *REFERENCE}),
    "tuned_nodule_classifier": ("stage_4_training", {"cutout_index", "tuning_study"}),
    "zero_rule_baseline": ("stage_4_training", {"cutout_index"}),
    "feature_baseline": ("stage_4_training", {"candidates", "cutout_index", "folds"}),
    "malignancy_feature_baseline": ("stage_4_training", {"candidates", "cutout_index", "folds"}),
    "nodule_predictions": ("stage_5_evaluation", FOR_NODULES),
    "malignancy_predictions": ("stage_5_evaluation", FOR_MALIGNANCY),
    "nodule_froc": ("stage_5_evaluation", {*OF_NODULES, *REFERENCE}),
    "nodule_report": ("stage_5_evaluation", OF_NODULES),
    "nodule_calibration": ("stage_5_evaluation", OF_NODULES),
    "nodule_subgroups": ("stage_5_evaluation", {*OF_NODULES, "ct_series", "reader_nodules"}),
    "nodule_errors": ("stage_5_evaluation", OF_NODULES),
    "nodule_model_cards": (
        "stage_5_evaluation",
        {*OF_NODULES, "nodule_report", "nodule_subgroups", "nodule_froc"},
    ),
    "detection_froc": (
        "stage_5_evaluation",
        {"nodule_segmenter", "nodule_classifier", "ct_series", "candidates", "folds", *REFERENCE},
    ),
    "malignancy_report": ("stage_5_evaluation", OF_MALIGNANCY),
    "malignancy_calibration": ("stage_5_evaluation", OF_MALIGNANCY),
    "malignancy_subgroups": ("stage_5_evaluation", {*OF_MALIGNANCY, "ct_series", "reader_nodules"}),
    "malignancy_errors": ("stage_5_evaluation", OF_MALIGNANCY),
    "malignancy_model_cards": (
        "stage_5_evaluation",
        {*OF_MALIGNANCY, "malignancy_report", "malignancy_subgroups"},
    ),
    "leaderboard": ("stage_5_evaluation", {*OF_NODULES, "nodule_froc", "nodule_report"}),
    "champion": ("stage_5_evaluation", {*OF_NODULES, *REFERENCE, "leaderboard"}),
    "lungs": ("stage_6_diagnosis", set()),
    "diagnosis": ("stage_6_diagnosis", {"lungs", "champion"}),
}
OF_A_FOLD = {
    "nodule_classifier",
    "malignancy_classifier",
    "nodule_segmenter",
    "zero_rule_baseline",
    "feature_baseline",
    "malignancy_feature_baseline",
    "detection_froc",
    "nodule_predictions",
    "malignancy_predictions",
    "tuning_study",
    "tuned_nodule_classifier",
}


def test_asset_graph_is_the_table_above():
    graph = defs.resolve_asset_graph()
    found = {
        key.to_user_string(): (
            graph.get(key).group_name,
            {parent.to_user_string() for parent in graph.get(key).parent_keys},
        )
        for key in graph.get_all_asset_keys()
    }
    assert found == GRAPH


def test_what_is_trained_and_scored_has_a_partition_a_test_fold():
    graph = defs.resolve_asset_graph()
    found = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).partitions_def == TEST_FOLDS}
    assert found == OF_A_FOLD
    assert TEST_FOLDS.name == "test_fold"


def test_diagnoses_have_a_partition_per_incoming_series_and_nothing_makes_them_by_itself():
    graph = defs.resolve_asset_graph()
    for name in ("lungs", "diagnosis"):
        node = graph.get(dg.AssetKey(name))
        assert node.partitions_def == INCOMING_SERIES
        assert node.automation_condition is None, "a new champion must not diagnose every CT again"
    sensor = defs.resolve_sensor_def("incoming_changed")
    assert (sensor.default_status, sensor.job_name) == (dg.DefaultSensorStatus.STOPPED, "diagnose")


def test_everything_says_what_it_is_and_assets_who_owns_them():
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert node.code_version or key not in graph.materializable_asset_keys, key
    assert all(graph.get_check_spec(key).description for key in graph.asset_check_keys)
    for job in defs.resolve_all_job_defs():
        assert job.name.startswith("__") or (job.description and all(node.description for node in job.all_node_defs))
    assert all(each.description for each in (*defs.sensors, *defs.schedules))
    for name, resource in defs.resources.items():
        assert len(type(resource).__doc__.split()) > 5, name


def test_an_asset_links_to_the_job_that_makes_it_and_to_its_source():
    graph = defs.resolve_asset_graph()
    jobs = {job.name for job in defs.resolve_all_job_defs()}
    assert {key.to_user_string() for key in graph.materializable_asset_keys} == set(JOB_OF)
    assert {job for job, _ in JOB_OF.values()} <= jobs
    for name, (job, started_by) in JOB_OF.items():
        metadata = graph.get(dg.AssetKey(name)).metadata
        assert metadata["made_by_job"].value.job_name == job
        started = f", or by the {started_by}, if these are on" if started_by else ""
        assert metadata["automation"] == f"job {job}, started by a person{started}."
        assert (Path(__file__).parents[1] / metadata["documentation"]).is_file(), name
        (source,) = metadata["dagster/code_references"].code_references
        assert Path(source.file_path).parent.name == "assets"
        assert source.line_number > 1
    cut = next(job for job in ASSET_JOBS if job.name == "cut")
    assert {key.to_user_string() for key in cut.selection.resolve(graph)} == {"cutouts"}


def test_the_source_is_linked_to_a_repository_only_where_one_is_named(monkeypatch):
    from luna_pipeline.assets.stage_1_ct import ct_series

    monkeypatch.setenv("LUNA_REPOSITORY_URL", "https://github.com/someone/something")
    (asset,) = linked([ct_series])
    (source,) = asset.metadata_by_key[dg.AssetKey("ct_series")]["dagster/code_references"].code_references
    place = "https://github.com/someone/something/tree/main/luna_pipeline/assets/stage_1_ct.py#L"
    assert source.url.startswith(place)
    page = asset.metadata_by_key[dg.AssetKey("ct_series")]["documentation"]
    assert page.value == "https://github.com/someone/something/blob/main/docs/how_to/sources/index.md"


def test_jobs_and_automation_have_the_names_that_hold():
    assert {job.name for job in defs.resolve_all_job_defs()} - {"__ASSET_JOB"} == {
        "demo",
        "demo_diagnosis",
        "diagnose",
        "download_luna16",
        "ingest",
        "describe_data",
        "find_same_scans",
        "cut",
        "index",
        "train_nodule_classifier",
        "train_malignancy_classifier",
        "train_nodule_segmenter",
        "evaluate",
        "evaluate_detection",
        "cross_validate",
        "promote",
        "prune_runs",
        "recut_changed",
        "tune",
    }
    assert {sensor.name for sensor in defs.sensors} == {"inputs_changed", "incoming_changed", "run_failed"}
    assert [schedule.job_name for schedule in defs.schedules] == ["recut_changed", "prune_runs"]


def test_code_version_of_cutouts_is_that_of_the_cutting_code():
    from luna_pipeline.core.cutouts.cutting import CUTTING_CODE_VERSION

    assert defs.resolve_asset_graph().get(dg.AssetKey("cutouts")).code_version == CUTTING_CODE_VERSION


def test_candidates_and_cutouts_are_expected_every_night():
    graph = defs.resolve_asset_graph()
    for name in ("candidates", "cutouts"):
        policy = graph.get(dg.AssetKey(name)).freshness_policy_or_from_metadata
        assert policy.warn_window.to_timedelta() > timedelta(hours=24), name
        assert policy.fail_window.to_timedelta() > timedelta(hours=48), name


def test_checks_that_guard_the_data_are_blocking():
    graph = defs.resolve_asset_graph()
    specs = [graph.get_check_spec(key) for key in graph.asset_check_keys]
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if spec.blocking} == {
        ("candidates", "rejected_rows_are_few"),
        ("folds", "folds_hold_series_and_patients_apart"),
        ("cutout_index", "cutouts_are_whole"),
        ("cutout_index", "no_cutout_in_two_folds"),
        ("feature_baseline", "no_leak"),
        ("malignancy_feature_baseline", "no_leak"),
        ("detection_froc", "no_leak"),
        ("nodule_predictions", "no_leak"),
        ("malignancy_predictions", "no_leak"),
        ("champion", "may_be_champion"),
    }


def _run_python(code: str, folder: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loading_definitions_imports_nothing_heavy(tmp_path: Path):
    code = f"import luna_pipeline.definitions, sys, json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    assert json.loads(_run_python(code, tmp_path)) == []


@pytest.mark.seed_defect(66)
def test_importing_every_module_reads_no_environment_and_leaves_no_trace(tmp_path: Path):
    code = (
        "import pkgutil, importlib, os, luna_pipeline\n"
        "before = dict(os.environ)\n"
        "for module in pkgutil.walk_packages(luna_pipeline.__path__, 'luna_pipeline.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert {k for k in os.environ if k.startswith(('LUNA', 'DAGSTER'))} == set(), os.environ\n"
        "import logging; print(len([h for h in logging.getLogger('luna_pipeline').handlers]))\n"
    )
    assert _run_python(code, tmp_path).strip() == "0"
    # matplotlib and its kind may keep caches of their own; the project keeps nothing.
    left = [path.name for path in tmp_path.iterdir() if path.name not in {".cache", ".config"}]
    assert left == []


def test_what_trains_scores_or_reads_whole_cts_waits_for_its_pool():
    pools = {}
    for assets in defs.resolve_asset_graph().assets_defs:
        for key in assets.keys if assets.is_executable else ():
            pools.setdefault(assets.op.pool, set()).add(key.to_user_string())
    assert pools["disk"] == {"ct_series", "cutouts", "data_quality", "luna16_archives", "same_scans"}
    assert pools["gpu"] == {
        "nodule_classifier",
        "malignancy_classifier",
        "nodule_segmenter",
        "detection_froc",
        "tuning_study",
        "tuned_nodule_classifier",
        "nodule_predictions",
        "malignancy_predictions",
    }
    assert pools["diagnosis"] == {"lungs", "diagnosis"}
    assert set(pools) == {None, "disk", "gpu", "diagnosis"}
