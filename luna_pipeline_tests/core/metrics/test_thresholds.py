"""Thresholds by hand, and compared with every possible threshold."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from luna_pipeline.core.metrics.thresholds import f1_threshold, sensitivity_threshold, youden_threshold

LABELS = np.array([0, 0, 0, 1, 0, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.35, 0.4, 0.6, 0.8])
ALL = (youden_threshold, f1_threshold, sensitivity_threshold)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores with many ties."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(60) < 0.3).astype(int)
    return labels, np.round(generator.random(60) * 0.7 + 0.3 * labels, 1)


def test_youden_threshold_parts_the_classes_best():
    # Sensitivity + specificity: at 0.6 2/3 + 1, at 0.35 1 + 3/4.
    assert youden_threshold(LABELS, SCORES) == 0.35


def test_youden_threshold_is_finite_even_where_scores_are_upside_down():
    assert youden_threshold(np.array([1, 0]), np.array([0.1, 0.9])) in (0.1, 0.9)


def test_of_several_youden_thresholds_it_is_the_highest():
    # At 0.8 1/3 + 1, at 0.5 2/3 + 2/3, at 0.2 1 + 1/3: all are 4/3.
    labels, scores = np.array([1, 0, 1, 0, 1, 0]), np.array([0.8, 0.6, 0.5, 0.4, 0.2, 0.1])
    assert youden_threshold(labels, scores) == 0.8


def test_f1_threshold_has_the_highest_f1():
    # Precision and recall: at 0.6 1 and 2/3, F1 0.8; at 0.35 3/4 and 1, F1 6/7.
    assert f1_threshold(LABELS, SCORES) == 0.35
    assert f1_threshold(np.append(LABELS, 0), np.append(SCORES, 0.55)) == 0.6


@pytest.mark.parametrize("seed", range(5))
def test_no_score_has_a_higher_f1_and_no_higher_score_the_same(seed):
    labels, scores = drawn(seed)
    f1 = {threshold: f1_score(labels, scores >= threshold) for threshold in np.unique(scores)}
    chosen = f1_threshold(labels, scores)
    assert f1[chosen] == pytest.approx(max(f1.values()))
    assert all(value < f1[chosen] - 1e-12 for threshold, value in f1.items() if threshold > chosen)


def test_f1_threshold_of_scores_that_are_upside_down_finds_something():
    assert f1_threshold(np.array([1, 0, 0]), np.array([0.1, 0.5, 0.9])) == 0.1


@pytest.mark.parametrize(
    ("sensitivity", "expected"), [(1 / 3, 0.8), (0.34, 0.6), (2 / 3, 0.6), (0.95, 0.35), (1, 0.35)]
)
def test_sensitivity_threshold_is_the_highest_that_finds_enough(sensitivity, expected):
    assert sensitivity_threshold(LABELS, SCORES, sensitivity=sensitivity) == expected


def test_without_a_wish_19_of_20_positives_are_found():
    scores = np.arange(21) / 20
    assert sensitivity_threshold(np.array([0] + [1] * 20), scores) == scores[2]


@pytest.mark.parametrize("seed", range(5))
def test_the_next_higher_score_finds_too_little(seed):
    labels, scores = drawn(seed)
    chosen = sensitivity_threshold(labels, scores, sensitivity=0.8)
    higher = min(score for score in [*scores, 2.0] if score > chosen)
    assert recall_score(labels, scores >= chosen) >= 0.8 > recall_score(labels, scores >= higher)


@pytest.mark.parametrize("threshold", ALL)
@pytest.mark.parametrize(("labels", "scores"), [([1, 1], [0.2, 0.3]), ([], []), ([0, 1], [0.2, math.nan])])
def test_a_threshold_of_one_class_is_nan(threshold, labels, scores):
    assert math.isnan(threshold(np.array(labels, dtype=np.int64), np.array(scores)))


@pytest.mark.parametrize("threshold", ALL)
def test_a_third_label_is_refused(threshold):
    with pytest.raises(ValueError, match=r"Labels must be 0 or 1, got \[0, 2\]"):
        threshold(np.array([0, 2]), np.array([0.1, 0.2]))


@pytest.mark.parametrize("sensitivity", [0.0, 1.1, math.nan])
def test_a_sensitivity_that_nothing_reaches_or_everything_is_refused(sensitivity):
    with pytest.raises(ValueError, match=r"sensitivity must be in \(0, 1\]"):
        sensitivity_threshold(LABELS, SCORES, sensitivity=sensitivity)
