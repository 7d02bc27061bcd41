"""LUNA25's score against its official procedure, written plainly with scikit-learn's loops."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from luna_pipeline.core.evaluation.luna25 import luna25_score


def officially(labels, scores):
    """AUC, its bounds, sensitivity and specificity as the challenge's container computes them."""
    state = np.random.RandomState(seed=42)
    drawn_aucs, num_skipped = [], 0
    for _ in range(1000):
        rows = state.choice(len(labels), len(labels), replace=True)
        if labels[rows].min() == labels[rows].max():
            num_skipped += 1
            continue
        drawn_aucs.append(roc_auc_score(labels[rows], scores[rows]))
    false_rates, true_rates, _ = roc_curve(labels, scores)
    within = [place for place, rate in enumerate(false_rates) if rate <= 1 - 0.95]
    enough = [place for place, rate in enumerate(true_rates) if rate >= 0.95]
    lower, upper = np.percentile(drawn_aucs, 2.5), np.percentile(drawn_aucs, 97.5)
    values = (roc_auc_score(labels, scores), lower, upper, true_rates[within[-1]], 1 - false_rates[enough[0]])
    return (*(float(value) for value in values), num_skipped)


def samples(num_rows, *, digits=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(num_rows) < 0.2).astype(np.int64)
    labels[:2] = 0, 1
    return labels, np.round(0.4 * rng.random(num_rows) + 0.3 * labels * rng.random(num_rows), digits)


SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in ((60, 2), (301, 6), (2000, 3))]


@pytest.mark.parametrize(("num_rows", "digits"), [(7, 1), (301, 2), *SLOW])
def test_the_score_is_the_official_one_to_the_last_digit(num_rows, digits):
    labels, scores = samples(num_rows, digits=digits)
    ours = luna25_score(labels, scores, np.arange(num_rows) // 2)
    found = (ours.auc, *ours.auc_bounds, ours.sensitivity, ours.specificity, ours.num_skipped_draws)
    assert found == officially(labels, scores)


def test_draws_of_a_single_class_are_skipped_and_counted():
    labels, scores = np.array([0, 0, 0, 1]), np.array([0.1, 0.4, 0.2, 0.3])
    ours = luna25_score(labels, scores, ["a", "b", "c", "d"])
    # (3/4)^4 of the draws lack the malignant row, and some are of it alone.
    draws = np.random.RandomState(42).randint(4, size=(1000, 4)).tolist()
    assert ours.num_skipped_draws == sum(3 not in draw or set(draw) == {3} for draw in draws)
    assert 250 < ours.num_skipped_draws < 400


def test_intervals_over_patients_are_wider_where_nodules_are_seen_again():
    labels, scores = samples(400, seed=3)
    alone = luna25_score(labels, scores, np.arange(400))
    labels, scores, patients = (np.repeat(values, 3) for values in (labels, scores, np.arange(400)))
    thrice = luna25_score(labels, scores, patients)
    official, of_patients = np.diff(thrice.auc_bounds)[0], np.diff(thrice.auc_patient_bounds)[0]
    # Three copies of a row tell nothing new: rows as independent make the interval narrower by the root of 3.
    assert of_patients / official == pytest.approx(math.sqrt(3), rel=0.15)
    assert thrice.auc_patient_bounds == pytest.approx(alone.auc_patient_bounds, abs=1e-12)
    assert np.diff(thrice.sensitivity_patient_bounds)[0] > 0
    assert thrice.num_patients == 400


def test_one_row_a_patient_gives_the_official_interval():
    labels, scores = samples(80)
    ours = luna25_score(labels, scores, [f"{row:03d}" for row in range(80)])
    assert ours.auc_patient_bounds == ours.auc_bounds


def test_a_single_patient_has_no_interval_and_json_has_no_nan():
    ours = luna25_score([0, 1, 1], [0.1, 0.5, 0.05], ["a", "a", "a"])
    assert math.isnan(ours.auc_patient_bounds[0])
    values = json.loads(json.dumps(ours.to_dict(), allow_nan=False))
    assert values["Final Score"] == values["AUC"] == 0.5
    assert values["more"]["auc_patient_bounds"] is None
    assert set(values) == {
        *("Final Score", "AUC", "AUC 95% CI lower bound", "AUC 95% CI upper bound", "Sensitivity", "Specificity"),
        "more",
    }


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [([0, 0], [0.1, 0.2], "0 malignant of 2"), ([0, 1], [0.1, math.nan], "finite"), ([0, 2], [0.1, 0.2], "0 or 1")],
)
def test_what_has_no_score_is_refused(labels, scores, said):
    with pytest.raises(ValueError, match=said):
        luna25_score(labels, scores, ["a", "b"])
