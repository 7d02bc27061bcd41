"""Detector and zero rule on a test fold of a small phantom, with networks that were not trained."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.diagnosis.recipes import default
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.launchers.diagnosis.detected_fold import (
    DETECTOR,
    ZERO_RULE,
    detect_and_score,
    diagnose_first_scan,
    leaks,
)
from luna_pipeline.settings import Settings
from luna_pipeline_tests.diagnosis_models import checkpoint_of
from luna_pipeline_tests.launchers.diagnosis.fold_models import OF_FOLD, save_models_of_fold
from luna_pipeline_tests.prepared import INGEST

RECIPE = default().with_changes(lung_margin_mm=0.0, merge_mm=0.5)


@pytest.fixture(scope="module")
def source(phantom_source, prepared_homes, tmp_path_factory):
    """An installation on the small phantom after `ingest`, with models of two folds; only read."""
    root = tmp_path_factory.mktemp("detected")
    shutil.copytree(phantom_source, root / "data")
    prepared_homes.copy((INGEST,), home=root / "home", dagster=root / "dagster")
    save_models_of_fold(settings_of(root))
    return root


def settings_of(root) -> Settings:
    return Settings.from_environment({"LUNA_HOME": str(root / "home"), "LUNA_DATA_DIR": str(root / "data")})


def series_of_fold(settings, fold: int) -> list[str]:
    folds = pd.read_parquet(settings.tables_dir / "folds.parquet")
    return folds.loc[folds["fold"] == fold, "series_instance_uid"].tolist()


def detected(settings, **options):
    return detect_and_score(
        settings,
        segmenter=checkpoint_of("segmenter"),
        classifier=checkpoint_of("classifier"),
        recipe=RECIPE,
        test_fold=0,
        draws=(20, 0),
        **options,
    )


@pytest.fixture(scope="module")
def found(source):
    lines = []
    return detected(settings_of(source), report=lines.append), lines


def test_both_search_every_scan_of_the_fold_and_are_scored_side_by_side(source, found):
    result, lines = found
    series = series_of_fold(settings_of(source), 0)
    assert lines == [f"Scan {number} of {len(series)}: {uid}" for number, uid in enumerate(series, start=1)]
    assert list(result.detections) == [DETECTOR, ZERO_RULE]
    for each in result.detections.values():
        assert each.searched == tuple(series)
        assert set(each.marks["series_instance_uid"]) <= set(series)
        assert len(each.marks)
    assert result.detections[DETECTOR].marks["probability"].between(0, 1).all()
    table = result.scores.table
    assert table["model"].tolist() == [DETECTOR, ZERO_RULE]
    assert set(table["num_scans"]) == set(table["num_searched"]) == {len(series)}
    assert table["num_nodules"].nunique() == 1
    # Everything brighter than lung is a finding here: the segmentation alone misses few nodules.
    assert table["search_recall"][0] >= 0.5
    assert (result.segmenter, result.classifier) == ("nodule_segmenter 0.0.1", "nodule_classifier 0.0.1")
    assert result.is_synthetic
    assert "synthetic phantom; research use only" in result.line


def test_seconds_are_those_of_each_stage_a_scan(found):
    table = found[0].seconds.set_index("stage")
    assert table.index.tolist() == ["lungs", "segmentation", "grouping", "classification", ZERO_RULE]
    assert (table["seconds"] > 0).all()
    assert np.allclose(table["seconds_per_scan"] * 2, table["seconds"])


def test_curves_of_both_are_drawn(found):
    assert found[0].froc_png().startswith(b"\x89PNG")


def test_a_scan_without_lungs_is_no_searched_scan_of_either(source, tmp_path):
    shutil.copytree(source / "data", tmp_path / "data")
    shutil.copytree(source / "home", tmp_path / "home")
    settings = settings_of(tmp_path)
    without, other = series_of_fold(settings, 0)
    (raw,) = (tmp_path / "data").rglob(f"{without}.raw")
    hounsfield = np.fromfile(raw, dtype="<i2")
    # Air around a body of water.
    np.where(hounsfield > -990, 0, hounsfield).astype("<i2").tofile(raw)
    result = detected(settings)
    for name, each in result.detections.items():
        assert each.searched == (other,)
        assert set(each.not_searched) == {without}
        assert "ungs" in each.not_searched[without]
        assert result.files[name][1].read_text().split() == ["seriesuid", other]
    assert result.scores.table[["num_scans", "num_searched"]].to_numpy().tolist() == [[2, 1]] * 2
    assert f"{DETECTOR} did not search 1 of 2 scans (the first, {without}: " in result.scores.notes[0]


def test_a_model_that_has_seen_a_scan_of_the_fold_is_a_leak_also_where_the_scan_has_no_candidate(source):
    settings = settings_of(source)
    (seen, _), (unseen, *_) = series_of_fold(settings, 0), series_of_fold(settings, 1)
    own = replace(checkpoint_of("segmenter"), training_series=[unseen])
    other = replace(checkpoint_of("classifier"), validation_series=[seen])
    clean, leak = leaks(settings, [own, other], test_fold=0)
    assert clean.lines == ()
    assert f"{seen} of fold 0; nodule_classifier" in leak.lines[0]
    candidates = settings.tables_dir / "candidates.parquet"
    content = candidates.read_bytes()
    rows = pd.read_parquet(candidates)
    try:
        rows[rows["series_instance_uid"] != seen].to_parquet(candidates)
        assert len(leaks(settings, [other], test_fold=0)[0].lines) == 1
    finally:
        candidates.write_bytes(content)


def test_one_scan_of_the_fold_is_diagnosed_with_the_models_of_this_fold(source, tmp_path):
    settings = settings_of(source)
    folder = diagnose_first_scan(settings, tmp_path, recipe=RECIPE, test_fold=0, run_ids={"dagster": "abc"})
    assert folder.name == series_of_fold(settings, 0)[0]
    values = json.loads((folder / "diagnosis.json").read_text())
    assert {model["version"] for model in values["models"]} == {OF_FOLD}
    assert values["run_ids"] == {"dagster": "abc"}
    assert values["is_synthetic"]
    checkpoint = load_checkpoint(settings.home / f"checkpoints/nodule_segmenter/{OF_FOLD}/best.pt")
    assert checkpoint.version == OF_FOLD
