"""Outputs of the official script compared with the command line and the function that it calls."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from luna_pipeline.cli import cli
from luna_pipeline.core.evaluation.froc import RankedFroc
from luna_pipeline.core.evaluation.froc_matching import FrocSamples
from luna_pipeline_tests.core.evaluation.froc_cases import golden_cases

pytestmark = pytest.mark.real
# Rates without a step of any curve.
BETWEEN = np.linspace(0.125, 8, 1001) + 1e-4
COUNTED_EXACTLY = {
    "true_positives",
    "false_positives",
    "false_negatives",
    "true_negatives",
    "total_candidates",
    "total_nodules",
    "ignored_on_excluded",
    "ignored_double_detections",
}


def numbers(values) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in np.atleast_1d(values)], dtype=np.float64)


def assert_between(found, lower, upper) -> None:
    found, lower, upper = numbers(found), numbers(lower), numbers(upper)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(lower))
    assert ((found >= lower - 1e-9) & (found <= upper + 1e-9) | np.isnan(found)).all()


@pytest.fixture(scope="module")
def evaluated(request, tmp_path_factory):
    """Return expected and found values of a case, with the official seed and number of draws."""
    case = request.param
    expected = json.loads((case / "expected.json").read_text())
    places = {name: str(case / path) for name, path in expected["inputs"].items()}
    out = tmp_path_factory.mktemp(case.name) / "out.json"
    result = CliRunner().invoke(
        cli,
        [
            "evaluate_froc",
            "--annotations",
            places["annotations"],
            "--excluded",
            places["annotations_excluded"],
            "--series",
            places["seriesuids"],
            "--predictions",
            places["submission"],
            "--json",
            str(out),
            "--bootstrap",
            str(expected["settings"]["bootstrap_samples"]),
            "--seed",
            "0",
        ],
    )
    assert result.exit_code == 0, result.output
    return expected, json.loads(out.read_text())


@pytest.mark.parametrize("evaluated", golden_cases("tables"), indirect=True)
def test_counts_are_the_scripts(evaluated):
    expected, found = evaluated
    assert {name: found["counts"][name] for name in COUNTED_EXACTLY} == {
        name: expected["counts"][name] for name in COUNTED_EXACTLY
    }
    for name in ("sensitivity", "candidates_per_scan"):
        assert round(found["counts"][name], 9) == expected["counts"][name]


@pytest.mark.parametrize("evaluated", golden_cases("tables"), indirect=True)
def test_sensitivities_and_cpm_are_the_scripts_to_the_last_bit(evaluated):
    expected, found = evaluated
    np.testing.assert_array_equal(numbers(found["sens_at_points"]), numbers(expected["sens_at_points"]))
    np.testing.assert_allclose(numbers(found["cpm"]), numbers(expected["cpm"]), rtol=0, atol=1e-12)
    assert_between(found["sens_at_points"], expected["sens_at_points_min"], expected["sens_at_points_max"])


@pytest.mark.parametrize("evaluated", golden_cases("tables"), indirect=True)
def test_the_curve_is_the_scripts(evaluated):
    curves = [
        np.interp(BETWEEN, numbers(values["froc"]["fps_per_scan"]), numbers(values["froc"]["sensitivity"]))
        for values in evaluated
    ]
    np.testing.assert_allclose(curves[1], curves[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("evaluated", golden_cases("tables"), indirect=True)
def test_the_bootstrap_is_the_scripts(evaluated):
    expected, found = evaluated
    for name in ("sens_mean", "sens_lower", "sens_upper", "cpm_mean"):
        np.testing.assert_allclose(
            numbers(found["bootstrap"][name]), numbers(expected["bootstrap"][name]), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("case", golden_cases("vectors"))
def test_a_curve_of_matched_samples_is_the_scripts(case):
    expected = json.loads((case / "expected.json").read_text())
    vectors = pd.read_csv(case / expected["inputs"]["vectors"])
    label, probability = (vectors.iloc[:, place].to_numpy() for place in (0, 1))
    samples = FrocSamples(
        probability=probability.astype(np.float64),
        is_nodule=label == 1,
        is_missed=probability == -1e9,
        scans=np.zeros(len(label), dtype=np.int64),
        listed=np.zeros(expected["n_scans"], dtype=np.int64),
        num_marks=0,
        num_ignored=0,
        num_doubles=0,
    )
    curve = RankedFroc.of(samples).curve()
    official = [numbers(expected["froc"][name]) for name in ("fps_per_scan", "sensitivity")]
    found = np.interp(BETWEEN, curve.fps_per_scan, curve.sensitivity)
    np.testing.assert_allclose(found, np.interp(BETWEEN, *official), rtol=0, atol=1e-6)
    assert_between(curve.cpm, expected["cpm_min"], expected["cpm_max"])
