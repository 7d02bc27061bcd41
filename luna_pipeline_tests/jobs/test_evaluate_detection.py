"""The job that searches and scores test folds, on a small phantom with networks that were not trained."""

import dagster as dg
import pytest

from luna_pipeline.runs.launch_checks import ConfigValueError
from luna_pipeline_tests.launchers.diagnosis.fold_models import OF_FOLD, save_models_of_fold
from luna_pipeline_tests.prepared import INGEST

CONFIG = {"changes": {"lung_margin_mm": 0.0, "merge_mm": 0.5}, "num_bootstraps": 20}


def config_of(**values) -> dict:
    return {"ops": {"detection_froc": {"config": {**CONFIG, **values}}}}


@pytest.fixture
def luna(luna_after):
    return luna_after(INGEST)


def failures(result) -> str:
    return "".join(event.step_failure_data.error_display_string for event in result.all_events if event.is_step_failure)


def fold_0(luna) -> list[str]:
    folds = luna.table("folds")
    return folds.loc[folds["fold"] == 0, "series_instance_uid"].tolist()


def test_fold_is_searched_scored_and_shown_with_the_models_of_this_fold(luna):
    save_models_of_fold(luna.settings)
    result = luna.run("evaluate_detection", run_config=config_of(folds=[0]))
    assert result.success, failures(result)
    assert luna.partitions("detection_froc") == {"0"}
    table = luna.table("detection_froc/0")
    assert table["model"].tolist() == ["nodule_detector", "laplacian_baseline"]
    event = luna.instance.get_latest_materialization_event(dg.AssetKey("detection_froc")).asset_materialization
    shown = {name: entry.value for name, entry in event.metadata.items()}
    assert (shown["segmenter"], shown["classifier"]) == (f"nodule_segmenter {OF_FOLD}", f"nodule_classifier {OF_FOLD}")
    assert shown["cpm"] == table["cpm"][0]
    assert shown["lesion_recall"] == table["lesion_recall"][0]
    assert shown["data"] == "synthetic phantom"
    assert "data:image/png;base64," in shown["froc"]
    assert [row.data["model"] for row in event.metadata["scores"].records] == ["nodule_detector", "laplacian_baseline"]
    assert shown["recipe"]["merge_mm"] == 0.5
    for name in table["model"]:
        assert shown[f"{name}_not_searched"] == {}
        assert luna.read(f"submissions/{name}/0_searched.csv").decode().split() == ["seriesuid", *fold_0(luna)]
        assert luna.has(f"submissions/{name}/0.csv")


def test_models_that_have_seen_the_fold_are_refused_before_anything_is_searched(luna):
    save_models_of_fold(luna.settings, seen={"segmenter": [fold_0(luna)[0]]})
    result = luna.run("evaluate_detection", run_config=config_of(folds=[0]))
    assert not result.success
    assert "A model must not be tested on series that it has seen, got 1" in failures(result)
    assert luna.partitions("detection_froc") == set()
    assert not luna.has("submissions")


def test_a_fold_without_models_says_what_is_missing(luna):
    none = luna.run("evaluate_detection", run_config=config_of())
    assert "A segmenter must be trained before it is scored, got none" in failures(none)
    save_models_of_fold(luna.settings)
    luna.remove("checkpoints/nodule_classifier/current_0.json")
    result = luna.run("evaluate_detection", run_config=config_of(folds=[0]))
    assert "`nodule_classifier` of fold 0" in failures(result)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"recipe": "fast"}, r"recipe not in enum type one of .*default.* got fast"),
        ({"changes": {"merge": 1.0}}, "merge"),
        ({"changes": {"segmentation_threshold": 1.5}}, "segmentation_threshold must"),
        ({"folds": [7]}, "A held-out fold must exist, got 7"),
    ],
)
def test_a_configuration_that_is_not_allowed_is_refused_at_launch(luna, values, words):
    with pytest.raises((ConfigValueError, dg.DagsterInvalidConfigError), match=words):
        luna.run("evaluate_detection", run_config=config_of(**values))
