"""Summary of the detector's demo, from a hand-made table."""

import pandas as pd
import pytest

from luna_pipeline.jobs.demo_diagnosis import summary_lines


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
