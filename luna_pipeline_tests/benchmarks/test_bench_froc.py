"""The benchmark of the evaluation: both ways come to the same, and its figures are there."""

import json

import numpy as np

from benchmarks.bench_froc import made_tables, main, official_point
from benchmarks.official_froc import froc_curve
from luna_pipeline.core.evaluation.official import evaluate_froc


def test_the_way_that_is_measured_against_gives_the_same_curve():
    tables = made_tables(num_scans=12)
    labels, scores, _ = (np.asarray(part) for part in official_point(tables))
    official = froc_curve(scores, labels == 1, scores == -1e9, num_scans=12)
    result = evaluate_froc(tables)
    assert 0.3 < result.curve.cpm < 1
    np.testing.assert_array_equal(result.curve.sens_at_points, official.sens_at_points)


def test_figures_and_goals_are_printed(capsys):
    assert main(["--scans", "12", "--draws", "20", "--repeats", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_marks"] == 1200
    assert {"point_seconds", "bootstrap_seconds", "point_ratio", "draw_ratio"} <= set(found)
