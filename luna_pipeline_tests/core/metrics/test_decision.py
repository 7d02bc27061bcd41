"""Thresholds and calibration of a model: chosen on validation data, stored and read back."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from luna_pipeline.core.metrics.calibration_choice import METHODS
from luna_pipeline.core.metrics.decision import UNDECIDED, Decision
from luna_pipeline.core.metrics.thresholds import f1_threshold, sensitivity_threshold, youden_threshold

GENERATOR = np.random.default_rng(0)
LABELS = (GENERATOR.random(200) < 0.2).astype(int)
SCORES = np.clip(GENERATOR.random(200) * 0.6 + 0.4 * LABELS, 0, 1)
DECISION = Decision.of(LABELS, SCORES)
ADDED = ("method", "platt_slope", "platt_intercept")


def test_a_decision_holds_all_that_the_validation_part_decides():
    assert DECISION.threshold == youden_threshold(LABELS, SCORES)
    assert DECISION.threshold_f1 == f1_threshold(LABELS, SCORES)
    assert DECISION.threshold_sensitivity == sensitivity_threshold(LABELS, SCORES)
    assert len({DECISION.threshold, DECISION.threshold_f1, DECISION.threshold_sensitivity}) == 3
    assert DECISION.num_validation_candidates == 200


def test_calibrated_scores_are_those_of_the_chosen_method():
    scores = np.linspace(0, 1, 11)
    for method, calibration in METHODS.items():
        expected = calibration.fit(LABELS, SCORES).apply(scores)
        np.testing.assert_array_equal(DECISION.calibrated(scores, method), expected)
        chosen = replace(DECISION, method=method)
        np.testing.assert_array_equal(chosen.calibrated(scores), expected)
        assert chosen.is_calibrated


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="method must be one of temperature, platt, isotonic, got 'beta'"):
        DECISION.calibrated(SCORES, "beta")


@pytest.mark.parametrize(("labels", "scores"), [([1, 1], [0.2, 0.3]), ([], []), ([0, 1], [0.2, math.nan])])
def test_one_class_decides_nothing(labels, scores):
    decision = Decision.of(np.array(labels, dtype=np.int64), np.array(scores))
    assert decision is UNDECIDED
    assert (decision.threshold, decision.threshold_f1, decision.threshold_sensitivity) == (0.5, 0.5, 0.5)
    assert decision.num_validation_candidates == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("decision", [UNDECIDED, Decision.at(0.2)])
def test_without_a_calibration_nothing_is_claimed_to_be_calibrated(decision, method):
    calibrated = decision.calibrated(np.array([0.1, 0.9]), method)
    assert calibrated.shape == (2,)
    assert np.isnan(calibrated).all()
    assert not decision.is_calibrated


def test_one_threshold_for_all_purposes():
    decision = Decision.at(0.2)
    assert (decision.threshold, decision.threshold_f1, decision.threshold_sensitivity) == (0.2, 0.2, 0.2)


@pytest.mark.parametrize("decision", [DECISION, UNDECIDED, Decision.at(0.25)])
def test_a_decision_comes_back_from_json_as_it_was(decision):
    text = json.dumps(decision.to_dict(), allow_nan=False)
    assert isinstance(Decision.from_dict(json.loads(text)).isotonic_scores, tuple)
    assert Decision.from_dict(json.loads(text)) == decision
    assert hash(Decision.from_dict(json.loads(text))) == hash(decision)


def test_decisions_that_differ_in_anything_are_not_equal():
    decision = replace(DECISION, method="platt")
    others = [replace(decision, **{name: getattr(UNDECIDED, name)}) for name in DECISION.to_dict()]
    assert decision not in others


def test_a_decision_of_an_earlier_version_is_calibrated_by_its_isotonic_regression():
    values = {name: value for name, value in DECISION.to_dict().items() if name not in ADDED}
    earlier = Decision.from_dict(values)
    np.testing.assert_array_equal(earlier.calibrated(SCORES), DECISION.calibrated(SCORES, "isotonic"))
    assert np.isnan(earlier.calibrated(SCORES, "platt")).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "beta"}, "method must be one of temperature, platt, isotonic, got 'beta'"),
        ({"platt_slope": -1.0}, "platt_slope must be in"),
        ({"platt_intercept": math.inf}, "platt_intercept must be in"),
    ],
)
def test_a_calibration_that_makes_no_sense_is_not_read(change, words):
    with pytest.raises(ValueError, match=words):
        Decision.from_dict({**DECISION.to_dict(), **change})


def test_a_value_that_is_missing_is_named():
    values = DECISION.to_dict()
    del values["temperature"]
    with pytest.raises(ValueError, match=r"A decision must hold .*, got \['isotonic_probabilities'"):
        Decision.from_dict(values)
