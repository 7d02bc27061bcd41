"""Detectors on a test fold of hand-made scans: findings, searched scans, the submission and its official score."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from luna_pipeline.core.ct.reading import UnreadableCtError
from luna_pipeline.launchers.diagnosis.detection import detect_fold, score_detections, score_line, write_detection
from luna_pipeline.settings import Settings
from luna_pipeline_tests.command_line import run_here
from luna_pipeline_tests.phantoms import random_hounsfield, write_ct

FINDINGS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
# Fold 0 has scans A, B, C; fold 1 has D. Each has a nodule of 10 mm at the origin.
FOLDS = {"A": 0, "B": 0, "C": 0, "D": 1}
FOUND = {"A": [((1.0, 0.0, 0.0), 0.9)], "B": [((90.0, 0.0, 0.0), 0.8), ((0.0, 0.0, 2.0), 0.7)], "C": []}


@pytest.fixture
def settings(tmp_path) -> Settings:
    data, home = tmp_path / "data", tmp_path / "home"
    for seed, uid in enumerate(FOLDS):
        write_ct(data, uid, random_hounsfield(seed=seed))
    (data / "annotations.csv").write_text(FINDINGS + "".join(f"{uid},0,0,0,10\n" for uid in FOLDS))
    (data / "annotations_excluded.csv").write_text(FINDINGS)
    (home / "tables").mkdir(parents=True)
    catalogue = [
        {"series_instance_uid": uid, "path": f"{uid}.mhd", "is_readable": True, "format": "metaimage"} for uid in FOLDS
    ]
    pd.DataFrame(catalogue).to_parquet(home / "tables/ct_series.parquet")
    rows = [{"series_instance_uid": uid, "fold": fold, "patient_hash": None} for uid, fold in FOLDS.items()]
    pd.DataFrame(rows).to_parquet(home / "tables/folds.parquet")
    return Settings(data_dir=data, home=home, mlflow_tracking_uri="")


def detector(ct):
    return FOUND[ct.series_instance_uid]


def refusing(uid, error=UnreadableCtError):
    def detect(ct):
        if ct.series_instance_uid == uid:
            msg = "Lungs must be found, got none."
            raise error(msg)
        return FOUND[ct.series_instance_uid]

    return detect


def test_every_scan_of_the_fold_and_no_other_is_searched_once(settings):
    seen, reported = [], []

    def watching(ct):
        seen.append((ct.series_instance_uid, ct.hounsfield.shape))
        return detector(ct)

    found = detect_fold(settings, {"x": watching}, test_fold=0, on_scan=lambda *place: reported.append(place))["x"]
    assert seen == [(uid, (6, 8, 10)) for uid in "ABC"]
    assert reported == [("A", 1, 3), ("B", 2, 3), ("C", 3, 3)]
    assert (found.searched, found.not_searched) == (("A", "B", "C"), {})
    assert found.marks.to_numpy().tolist() == [
        ["A", 1.0, 0.0, 0.0, 0.9],
        ["B", 90.0, 0.0, 0.0, 0.8],
        ["B", 0.0, 0.0, 2.0, 0.7],
    ]


def test_a_scan_that_one_detector_cannot_search_is_listed_with_its_reason_and_scored_twice(settings):
    found = detect_fold(settings, {"ours": refusing("C"), "blobs": detector}, test_fold=0)
    assert found["ours"].searched == ("A", "B")
    assert found["ours"].not_searched == {"C": "Lungs must be found, got none."}
    assert found["blobs"].searched == ("A", "B", "C")
    scores = score_detections(settings, found, test_fold=0, num_bootstraps=20, seed=0)
    table = scores.table.set_index("model")
    # One false positive in 2 or 3 scans lies before the second nodule; the third one is officially missed.
    assert table.loc["ours", ["num_scans", "num_searched"]].tolist() == [3, 2]
    assert table.loc["ours", "cpm"] == pytest.approx((2 * 1 / 3 + 5 * 2 / 3) / 7)
    assert table.loc["ours", "cpm_searched"] == pytest.approx((2 * 1 / 2 + 5 * 1) / 7)
    assert table.loc["blobs", "cpm_searched"] == table.loc["blobs", "cpm"] == table.loc["ours", "cpm"]
    assert table["folds"].tolist() == ["fold 0 of 2"] * 2
    assert score_line(scores.table, is_synthetic=True).endswith(
        "] of ours, fold 0 of 2: 66.7% of 3 nodules at 0.33 false positives a scan, 2 of 3 scans searched (synthetic "
        "phantom; research use only)"
    )
    assert scores.notes[0] == "ours did not search 1 of 3 scans (the first, C: Lungs must be found, got none.)."


def test_a_scan_that_cannot_be_read_is_searched_by_no_detector(settings):
    (settings.data_dir / "B.raw").unlink()
    found = detect_fold(settings, {"ours": detector, "blobs": detector}, test_fold=0)
    assert [one.searched for one in found.values()] == [("A", "C")] * 2
    assert "B" in found["ours"].not_searched["B"]


def test_a_scan_that_the_catalogue_has_lost_is_listed_with_its_reason(settings):
    table = settings.tables_dir / "ct_series.parquet"
    pd.read_parquet(table).query("series_instance_uid != 'B'").to_parquet(table)
    found = detect_fold(settings, {"ours": detector}, test_fold=0)["ours"]
    assert found.searched == ("A", "C")
    assert "got none (series B)" in found.not_searched["B"]


def test_numbers_that_are_no_hu_are_refused_as_in_a_diagnosis(settings):
    write_ct(settings.data_dir, "B", random_hounsfield(seed=1) + 1024)
    found = detect_fold(settings, {"ours": detector}, test_fold=0)["ours"]
    assert "Voxels must be HU" in found.not_searched["B"]


def test_an_error_of_the_code_is_no_unsearched_scan(settings):
    with pytest.raises(TypeError, match="Lungs must be found"):
        detect_fold(settings, {"ours": refusing("B", TypeError)}, test_fold=0)


def test_a_detector_that_searches_nothing_and_a_fold_without_scans_are_refused(settings):
    def broken(ct):
        msg = "Networks must match, got another."
        raise ValueError(msg)

    with pytest.raises(ValueError, match=r"got none of 3 \(ours\).*The first, A: Networks must match"):
        detect_fold(settings, {"ours": broken}, test_fold=0)
    with pytest.raises(ValueError, match=r"got 7 of folds \[0, 1\]"):
        detect_fold(settings, {"ours": detector}, test_fold=7)


def test_without_annotations_there_are_findings_and_no_score(settings):
    (settings.data_dir / "annotations.csv").unlink()
    found = detect_fold(settings, {"ours": detector}, test_fold=0)
    scores = score_detections(settings, found, test_fold=0, num_bootstraps=0, seed=0)
    assert (scores.results, len(scores.table)) == ({}, 0)
    assert score_line(scores.table, is_synthetic=False).startswith("No score of the detector is defined (CT;")
    assert "There is no annotations.csv" in scores.notes[-1]


def test_scans_that_are_not_in_the_list_are_searched_and_not_scored(settings):
    (settings.data_dir / "seriesuids.csv").write_text("A\nB\n")
    found = detect_fold(settings, {"ours": detector}, test_fold=0)
    scores = score_detections(settings, found, test_fold=0, num_bootstraps=0, seed=0)
    assert scores.table[["num_scans", "num_searched"]].to_numpy().tolist() == [[2, 2]]


def test_the_command_scores_the_written_submission_alike(settings, tmp_path):
    found = detect_fold(settings, {"ours": refusing("C")}, test_fold=0)["ours"]
    submission, searched = write_detection(settings, "ours", found, test_fold=0)
    assert searched.read_text() == "seriesuid\nA\nB\n"
    (tmp_path / "series.csv").write_text("A\nB\nC\n")
    options = {
        "annotations": settings.data_dir / "annotations.csv",
        "series": tmp_path / "series.csv",
        "predictions": submission,
        "searched": searched,
        "json": tmp_path / "out.json",
    }
    arguments = [text for name, path in options.items() for text in (f"--{name}", str(path))]
    done = run_here("evaluate_froc", *arguments, cwd=tmp_path, environment={})
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "out.json").read_text())
    scores = score_detections(settings, {"ours": found}, test_fold=0, num_bootstraps=0, seed=0)
    row = scores.table.iloc[0]
    assert (values["cpm"], values["searched"]["cpm"]) == (row["cpm"], row["cpm_searched"])
    assert values["searched"]["not_searched"] == ["C"]


def test_findings_of_no_scan_are_an_empty_submission(settings):
    found = detect_fold(settings, {"ours": lambda _: []}, test_fold=0)["ours"]
    submission, searched = write_detection(settings, "ours", found, test_fold=0)
    assert submission.read_text() == "seriesuid,coordX,coordY,coordZ,probability\n"
    assert searched.read_text().split() == ["seriesuid", "A", "B", "C"]
    scores = score_detections(settings, {"ours": replace(found)}, test_fold=0, num_bootstraps=20, seed=0)
    assert scores.table["lesion_recall"].tolist() == [0.0]
