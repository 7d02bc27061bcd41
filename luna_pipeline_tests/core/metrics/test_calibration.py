"""Calibrations invert a known distortion of probabilities, and agree with scikit-learn."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from luna_pipeline.core.metrics.calibration import TEMPERATURES, IsotonicCalibration, TemperatureCalibration


def drawn(num: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and the probabilities they are drawn with."""
    generator = np.random.default_rng(0)
    probabilities = expit(generator.normal(-1.0, 2.0, num))
    return (generator.random(num) < probabilities).astype(int), probabilities


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_that_made_scores_too_sure_or_too_shy_is_found_and_taken_back(temperature):
    labels, probabilities = drawn()
    scores = expit(logit(probabilities) * temperature)
    found = TemperatureCalibration.fit(labels, scores)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(found.apply(scores), probabilities, atol=0.01)


def test_no_other_temperature_has_a_smaller_log_loss():
    labels, probabilities = drawn(500)
    scores = probabilities**2
    found = TemperatureCalibration.fit(labels, scores)
    loss = log_loss(labels, found.apply(scores))
    for temperature in np.geomspace(*TEMPERATURES, 200):
        assert loss <= log_loss(labels, TemperatureCalibration(float(temperature)).apply(scores)) + 1e-9


def test_temperature_by_hand():
    # Log odds of 0.9 are ln 9: half of them are ln 3, the log odds of 0.75.
    np.testing.assert_allclose(TemperatureCalibration(2.0).apply(np.array([0.1, 0.5, 0.9])), [0.25, 0.5, 0.75])


def test_temperature_keeps_the_order_and_takes_scores_of_0_and_1():
    calibrated = TemperatureCalibration(3.0).apply(np.array([0.0, 0.2, 0.3, 1.0], dtype=np.float32))
    assert (np.diff(calibrated) > 0).all()
    assert 0 < calibrated[0] < calibrated[-1] < 1
    assert calibrated.dtype == np.float64


@pytest.mark.parametrize(("labels", "expected"), [([0, 0, 1, 1], TEMPERATURES[0]), ([1, 1, 0, 0], TEMPERATURES[1])])
def test_scores_without_a_mistake_or_upside_down_get_the_ends_of_the_range(labels, expected):
    found = TemperatureCalibration.fit(np.array(labels), np.array([0.2, 0.3, 0.6, 0.7]))
    assert found.temperature == pytest.approx(expected, rel=1e-4)


def test_isotonic_by_hand():
    # The labels of 0.3 and 0.4 are in the wrong order: both get the mean of their labels.
    found = IsotonicCalibration.fit(np.array([0, 1, 0, 1]), np.array([0.1, 0.3, 0.4, 0.8]))
    np.testing.assert_allclose(found.apply(np.array([0.0, 0.1, 0.2, 0.35, 0.6, 0.9])), [0, 0, 0.25, 0.5, 0.75, 1])


def test_isotonic_is_that_of_scikit_learn():
    labels, probabilities = drawn(3000)
    scores = np.round(probabilities**2, 3)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    grid = np.linspace(0, 1, 777)
    np.testing.assert_allclose(IsotonicCalibration.fit(labels, scores).apply(grid), oracle.predict(grid), atol=1e-12)


def test_isotonic_of_equal_scores_is_the_share_of_positives():
    found = IsotonicCalibration.fit(np.array([0, 1, 0, 0]), np.full(4, 0.3))
    np.testing.assert_allclose(found.apply(np.array([0.1, 0.3, 0.9])), 0.25)


@pytest.mark.parametrize("calibration", [TemperatureCalibration, IsotonicCalibration])
@pytest.mark.parametrize(("labels", "scores"), [([1, 1], [0.2, 0.3]), ([], []), ([0, 1], [0.2, math.nan])])
def test_of_one_class_there_is_no_calibration(calibration, labels, scores):
    assert calibration.fit(np.array(labels, dtype=np.int64), np.array(scores)) is None


def test_a_calibration_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"temperature must be in \(0, inf\), got 0.0"):
        TemperatureCalibration(0.0)
    with pytest.raises(ValueError, match="Knots must be pairs, got 2 scores and 1 probabilities"):
        IsotonicCalibration((0.1, 0.2), (0.5,))
