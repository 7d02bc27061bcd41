"""The detector's demo: its summary from a hand-made table, and the whole job on a small phantom."""

import pandas as pd
import pytest

from luna_pipeline.jobs.demo_diagnosis import summary_lines
from luna_pipeline_tests.prepared import CUT, INGEST


def row(model: str, recall: float, fps: float) -> dict:
    return {
        "model": model,
        "folds": "fold 0 of 5",
        "cpm": 0.91234,
        "cpm_lower": 0.8,
        "cpm_upper": 0.99,
        "lesion_recall": recall,
        "fps_per_scan": fps,
        "search_recall": 0.963,
        "num_searched": 6,
        "num_scans": 7,
    }


@pytest.mark.parametrize(("recall", "word"), [(0.85, "reached"), (0.849, "not reached")])
def test_summary_shows_both_detectors_their_searched_scans_and_the_target(recall, word):
    table = pd.DataFrame([row("nodule_detector", recall, 1.25), row("laplacian_baseline", 0.3, 4.0)])
    lines = summary_lines(table, {"segmenter": 123.45})
    assert "synthetic phantom" in lines[0]
    assert "research use only" in lines[0]
    assert lines[2].split() == [
        "nodule_detector",
        "0.912",
        "[0.800,",
        "0.990]",
        f"{recall:.3f}",
        "1.25",
        "0.963",
        "6/7",
    ]
    assert lines[3].split()[0] == "laplacian_baseline"
    assert lines[4].endswith(f" {word}.")
    assert lines[-1].split() == ["segmenter", "123.5", "s"]


@pytest.mark.slow
def test_demo_trains_scores_and_reports_and_trains_no_classifier_again(luna_after):
    luna = luna_after(INGEST, CUT)
    config = {"ops": {"make_phantom_data": {"config": {"seed": 0, "epochs": 1}}}}
    for _ in range(2):
        assert luna.run("demo_diagnosis", run_config=config).success
    assert luna.partitions("detection_froc") == {"0"}
    versions = {name: luna.names(f"checkpoints/{name}") for name in ("nodule_classifier", "nodule_segmenter")}
    assert [name for name in versions["nodule_classifier"] if name.endswith("best.pt")] == ["0.0.1-fold0/best.pt"]
    assert "0.0.1-fold0+1/best.pt" in versions["nodule_segmenter"]
    folds = luna.table("folds")
    uid = folds.loc[folds["fold"] == 0, "series_instance_uid"].iloc[0]
    assert {"report.html", "nodules.csv", "diagnosis.json"} <= set(luna.names(f"diagnoses/{uid}"))
