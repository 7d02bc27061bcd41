import math

import numpy as np
import pytest

from luna_pipeline.core.metrics.binary import (
    DECISION_METRIC_NAMES,
    METRIC_NAMES,
    binary_metrics,
    decision_metrics,
    sensitivity_at_specificity,
)


def test_metrics_agree_with_paper():
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    scores = np.array([0.9, 0.6, 0.2, 0.7, 0.4, 0.3, 0.1, 0.0])
    # At 0.5: found 0.9 and 0.6, missed 0.2, false alarm 0.7. Of the 15 pairs 5 + 4 + 2 are in order.
    assert binary_metrics(labels, scores) == pytest.approx(
        {
            "auc": 11 / 15,
            "average_precision": (1 / 1 + 2 / 3 + 3 / 6) / 3,
            "sensitivity": 2 / 3,
            "specificity": 4 / 5,
            "precision": 2 / 3,
            "f1": 2 / 3,
            "accuracy": 6 / 8,
        }
    )


def test_a_score_equal_to_the_threshold_is_a_nodule():
    values = binary_metrics(np.array([1, 0]), np.array([0.5, 0.4]), threshold=0.5)
    assert (values["sensitivity"], values["specificity"]) == (1.0, 1.0)


def test_auc_of_equal_scores_is_one_half():
    assert binary_metrics(np.array([0, 1, 0, 1]), np.full(4, 0.3))["auc"] == 0.5


@pytest.mark.seed_defect(41)
@pytest.mark.parametrize(
    ("labels", "scores", "undefined"),
    [
        ([], [], set(METRIC_NAMES)),
        ([0, 0], [0.2, 0.7], {"auc", "average_precision", "sensitivity"}),
        ([0, 0], [0.2, 0.3], {"auc", "average_precision", "sensitivity", "precision", "f1"}),
        ([1, 1], [0.9, 0.2], {"auc", "specificity"}),
        ([1, 0], [0.1, 0.2], {"precision"}),
        ([1, 0], [0.1, math.nan], set(METRIC_NAMES)),
    ],
)
def test_what_is_undefined_is_nan_and_nothing_else_is(labels, scores, undefined):
    values = binary_metrics(np.array(labels, dtype=np.int64), np.array(scores))
    assert {name for name, value in values.items() if math.isnan(value)} == undefined


def test_decisions_that_no_single_threshold_makes_are_counted():
    labels, is_called = np.array([1, 0, 1, 0, 0]), np.array([True, True, False, False, False])
    assert decision_metrics(labels, is_called) == pytest.approx(
        {
            "true_positives": 1,
            "false_positives": 1,
            "true_negatives": 2,
            "false_negatives": 1,
            "sensitivity": 1 / 2,
            "specificity": 2 / 3,
            "precision": 1 / 2,
            "f1": 1 / 2,
            "accuracy": 3 / 5,
        }
    )


def test_no_decision_at_all_counts_nothing_and_defines_nothing():
    values = decision_metrics(np.array([], dtype=np.int64), np.array([], dtype=bool))
    assert tuple(values) == DECISION_METRIC_NAMES
    assert [values[name] for name in DECISION_METRIC_NAMES[:4]] == [0, 0, 0, 0]
    assert all(math.isnan(values[name]) for name in DECISION_METRIC_NAMES[4:])


@pytest.mark.parametrize(("specificity", "expected"), [(1.0, 0.25), (0.95, 0.75), (0.86, 0.75), (0.85, 1.0)])
def test_sensitivity_at_a_specificity_is_the_highest_that_no_more_false_positives_give(specificity, expected):
    # Of the 20 others, one lies between the first and the second nodule, and three above the last one.
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, *np.linspace(0.0, 0.3, 17)]
    labels = [1, 0, 1, 1, 0, 0, 1, *[0] * 17]
    found = sensitivity_at_specificity(np.array(labels), np.array(scores), specificity=specificity)
    assert found == expected


@pytest.mark.parametrize(("labels", "scores"), [([1, 1], [0.2, 0.3]), ([0, 0], [0.2, 0.3]), ([0, 1], [0.2, math.nan])])
def test_sensitivity_at_a_specificity_of_one_class_is_nan(labels, scores):
    assert math.isnan(sensitivity_at_specificity(np.array(labels), np.array(scores), specificity=0.95))


def test_a_missing_score_and_a_third_label_are_refused():
    with pytest.raises(ValueError, match=r"two rows of one length, got \(3,\) and \(2,\)"):
        binary_metrics(np.array([0, 1, 1]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"Labels must be 0 or 1, got \[0, 2\]"):
        binary_metrics(np.array([0, 2]), np.array([0.1, 0.2]))
