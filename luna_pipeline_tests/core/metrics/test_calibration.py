"""Calibrations invert a known distortion of probabilities, and agree with scikit-learn."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from luna_pipeline.core.metrics.calibration import (
    LEAST_SLOPE,
    TEMPERATURES,
    IsotonicCalibration,
    PlattCalibration,
    TemperatureCalibration,
    platt_targets,
)

KINDS = [TemperatureCalibration, PlattCalibration, IsotonicCalibration]


def smooth_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean log loss against Platt's targets."""
    targets, probabilities = platt_targets(labels), np.clip(probabilities, 1e-300, 1 - 1e-16)
    return float(-(targets * np.log(probabilities) + (1 - targets) * np.log1p(-probabilities)).mean())


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
    loss = smooth_loss(labels, found.apply(scores))
    for temperature in np.geomspace(*TEMPERATURES, 200):
        assert loss <= smooth_loss(labels, TemperatureCalibration(float(temperature)).apply(scores)) + 1e-9


def test_temperature_by_hand():
    # Log odds of 0.9 are ln 9: half of them are ln 3, the log odds of 0.75.
    np.testing.assert_allclose(TemperatureCalibration(2.0).apply(np.array([0.1, 0.5, 0.9])), [0.25, 0.5, 0.75])


def test_temperature_keeps_the_order_and_takes_scores_of_0_and_1():
    calibrated = TemperatureCalibration(3.0).apply(np.array([0.0, 0.2, 0.3, 1.0], dtype=np.float32))
    assert (np.diff(calibrated) > 0).all()
    assert 0 < calibrated[0] < calibrated[-1] < 1
    assert calibrated.dtype == np.float64


def test_scores_that_are_inverted_get_the_limits_and_keep_their_order():
    labels, scores = np.array([1, 1, 0, 0]), np.array([0.2, 0.3, 0.6, 0.7])
    assert TemperatureCalibration.fit(labels, scores).temperature == pytest.approx(TEMPERATURES[1], rel=1e-4)
    found = PlattCalibration.fit(labels, scores)
    assert found.slope == pytest.approx(LEAST_SLOPE)
    assert (np.diff(found.apply(scores)) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_of_each", [1, 4, 40])
def test_a_few_samples_without_a_mistake_are_no_certainty(kind, num_of_each):
    labels = np.repeat([0, 1], num_of_each)
    found = kind.fit(labels, np.where(labels == 1, 0.7, 0.3))
    probabilities = found.apply(np.array([0.3, 0.7]))
    # Laplace's rule of succession.
    least = 1 / (num_of_each + 2)
    np.testing.assert_allclose(probabilities, [least, 1 - least], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_nodule_among_others_is_no_certainty(kind):
    probabilities = kind.fit(np.arange(50) // 49, np.linspace(0.01, 0.99, 50)).apply(np.array([0.0, 0.99, 1.0]))
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert kind is TemperatureCalibration or (probabilities[:2] < 0.7).all()


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.4, -2.0), (2.0, 3.0)])
def test_the_line_of_log_odds_that_distorted_the_scores_is_found(slope, intercept):
    labels, probabilities = drawn()
    scores = expit((logit(probabilities) - intercept) / slope)
    found = PlattCalibration.fit(labels, scores)
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept), abs=0.1)
    np.testing.assert_allclose(found.apply(scores), probabilities, atol=0.02)


def test_no_other_line_has_a_smaller_log_loss():
    labels, probabilities = drawn(500)
    found = PlattCalibration.fit(labels, probabilities**2)
    loss = smooth_loss(labels, found.apply(probabilities**2))
    for slope in found.slope + np.linspace(-0.3, 0.3, 7):
        for intercept in found.intercept + np.linspace(-0.3, 0.3, 7):
            assert loss <= smooth_loss(labels, PlattCalibration(slope, intercept).apply(probabilities**2)) + 1e-9


def test_isotonic_by_hand():
    # The labels of 0.3 and 0.4 are in the wrong order: both get the mean of their labels. Two samples of each class
    # limit the probabilities to 1/4 and 3/4.
    found = IsotonicCalibration.fit(np.array([0, 1, 0, 1]), np.array([0.1, 0.3, 0.4, 0.8]))
    expected = [0.25, 0.25, 0.375, 0.5, 0.625, 0.75]
    np.testing.assert_allclose(found.apply(np.array([0.0, 0.1, 0.2, 0.35, 0.6, 0.9])), expected)


def test_isotonic_is_that_of_scikit_learn():
    labels, probabilities = drawn(3000)
    scores = np.round(probabilities**2, 3)
    targets = platt_targets(labels)
    oracle = IsotonicRegression(y_min=targets.min(), y_max=targets.max(), out_of_bounds="clip").fit(scores, labels)
    grid = np.linspace(0, 1, 777)
    np.testing.assert_allclose(IsotonicCalibration.fit(labels, scores).apply(grid), oracle.predict(grid), atol=1e-12)


def test_isotonic_of_equal_scores_is_the_share_of_positives():
    found = IsotonicCalibration.fit(np.array([0, 1, 0, 0]), np.full(4, 0.3))
    np.testing.assert_allclose(found.apply(np.array([0.1, 0.3, 0.9])), 0.25)


@pytest.mark.parametrize("calibration", KINDS)
@pytest.mark.parametrize(("labels", "scores"), [([1, 1], [0.2, 0.3]), ([], []), ([0, 1], [0.2, math.nan])])
def test_of_one_class_there_is_no_calibration(calibration, labels, scores):
    assert calibration.fit(np.array(labels, dtype=np.int64), np.array(scores)) is None


def test_a_calibration_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"temperature must be in \(0, inf\), got 0.0"):
        TemperatureCalibration(0.0)
    with pytest.raises(ValueError, match=r"slope must be in \(0, inf\), got -1.0"):
        PlattCalibration(-1.0, 0.0)
    with pytest.raises(ValueError, match="Knots must be pairs, got 2 scores and 1 probabilities"):
        IsotonicCalibration((0.1, 0.2), (0.5,))
