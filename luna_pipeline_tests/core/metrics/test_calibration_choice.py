"""The calibration is the simplest one that predicts held-out samples about as well as the best."""

import numpy as np
import pytest
from scipy.special import expit, logit

from luna_pipeline.core.metrics.calibration_choice import METHODS, choose_method


def drawn(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and the probabilities they are drawn with."""
    generator = np.random.default_rng(seed)
    probabilities = expit(generator.normal(-1.0, 2.0, num))
    return (generator.random(num) < probabilities).astype(int), probabilities


def loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    likely = np.clip(np.where(labels == 1, probabilities, 1 - probabilities), 1e-7, 1)
    return float(-np.log(likely).mean())


@pytest.mark.parametrize(
    ("distorted", "method"),
    [
        (lambda p: p, "temperature"),
        (lambda p: expit(3 * logit(p)), "temperature"),
        # Training batches of as many nodules as others.
        (lambda p: expit(logit(p) + 2), "platt"),
        # No line of log odds.
        (lambda p: 0.5 + 0.5 * np.clip(np.abs(2 * p - 1) ** 0.2 * np.sign(2 * p - 1), -0.9, 0.9), "isotonic"),
    ],
)
def test_with_many_samples_the_simplest_method_that_inverts_a_distortion_is_chosen(distorted, method):
    labels, probabilities = drawn(5000)
    assert choose_method(labels, distorted(probabilities)) == method


def test_with_few_samples_the_choice_is_not_worse_than_the_scores_or_isotonic_regression():
    fresh_labels, fresh = drawn(20_000, seed=99)
    chosen, isotonic = [], []
    for seed in range(20):
        labels, scores = drawn(90, seed)
        fitted = {method: kind.fit(labels, scores) for method, kind in METHODS.items()}
        chosen.append(loss(fresh_labels, fitted[choose_method(labels, scores)].apply(fresh)))
        isotonic.append(loss(fresh_labels, fitted["isotonic"].apply(fresh)))
    assert np.mean(chosen) < 0.95 * np.mean(isotonic)
    assert np.mean(chosen) < 1.05 * loss(fresh_labels, fresh)


def test_candidates_of_one_series_are_not_divided():
    # The candidates of a series have one label and almost one score, which has no relation to the label.
    generator = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), 50)
    labels, scores = (np.repeat(values, 50) for values in (np.arange(30) % 2, generator.random(30)))
    scores = scores + generator.normal(0, 1e-6, len(scores))
    assert choose_method(labels, scores) == "isotonic"
    assert choose_method(labels, scores, groups) != "isotonic"


@pytest.mark.parametrize("groups", [None, np.repeat([0, 1], 5)])
def test_a_class_that_cannot_be_divided_leaves_the_simplest_method(groups):
    labels = np.array([0] * 9 + [1])
    assert choose_method(labels, np.linspace(0.1, 0.9, 10), groups) == "temperature"


@pytest.mark.parametrize("scores", [np.full(60, 0.3), np.arange(60) % 2 * 0.6 + 0.2, np.arange(60)[::-1] % 2 * 1.0])
def test_any_scores_have_a_choice_and_the_same_one_again(scores):
    labels = np.arange(60) % 2
    assert choose_method(labels, scores) == choose_method(labels, scores, np.arange(60))
    assert choose_method(labels, scores) in METHODS
