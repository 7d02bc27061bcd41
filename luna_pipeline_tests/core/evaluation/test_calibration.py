"""Calibration errors and the table behind a reliability diagram."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from luna_pipeline.core.evaluation.calibration import (
    RELIABILITY_COLUMNS,
    calibration_errors,
    chance_error,
    reliability_table,
)

# Two bins: four scores around 0.25 with one nodule, two around 0.85 with two.
LABELS = np.array([0, 1, 0, 0, 1, 1])
SCORES = np.array([0.22, 0.24, 0.26, 0.28, 0.81, 0.89])


def drawn(num: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    scores = generator.random(num) ** 2
    return (generator.random(num) < scores).astype(int), scores


def test_errors_by_hand():
    errors = calibration_errors(LABELS, SCORES)
    # The mean scores are 0.25 and 0.85, the shares 1/4 and 1.
    assert errors["ece"] == pytest.approx((4 * 0.0 + 2 * 0.15) / 6)
    squares = [0.22**2, 0.76**2, 0.26**2, 0.28**2, 0.19**2, 0.11**2]
    assert errors["brier"] == pytest.approx(sum(squares) / 6)


def test_errors_are_those_of_the_table_and_of_scikit_learn():
    labels, scores = drawn()
    errors, table = calibration_errors(labels, scores), reliability_table(labels, scores)
    distances = (table["mean_score"] - table["share_of_positives"]).abs()
    assert errors["ece"] == pytest.approx(np.average(distances, weights=table["count"]))
    assert errors["brier"] == pytest.approx(brier_score_loss(labels, scores))


def test_scores_that_labels_were_drawn_with_are_nearly_calibrated_and_half_of_them_is_not():
    labels, scores = drawn(20_000)
    assert calibration_errors(labels, scores)["ece"] < 0.01
    assert calibration_errors(labels, scores / 2)["ece"] == pytest.approx(scores.mean() / 2, abs=0.01)


def test_the_zero_rule_is_calibrated():
    errors = calibration_errors(np.array([0, 0, 0, 1]), np.full(4, 0.25))
    assert errors == pytest.approx({"brier": 0.25 * 0.75, "ece": 0.0})


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_has_errors_as_well(label):
    errors = calibration_errors(np.full(3, label), np.array([0.1, 0.1, 0.1]))
    assert errors == pytest.approx({"brier": (label - 0.1) ** 2, "ece": abs(label - 0.1)})


@pytest.mark.parametrize(("labels", "scores"), [([], []), ([0, 1], [0.2, np.nan])])
def test_errors_of_nothing_are_nan(labels, scores):
    errors = calibration_errors(np.array(labels, dtype=np.int64), np.array(scores))
    assert list(errors) == ["brier", "ece"]
    assert np.isnan(list(errors.values())).all()


def test_table_by_hand_leaves_empty_bins_out():
    table = reliability_table(LABELS, SCORES)
    assert tuple(table.columns) == RELIABILITY_COLUMNS
    assert table["bin"].tolist() == [2, 8]
    assert table["mean_score"].tolist() == pytest.approx([0.25, 0.85])
    assert table["share_of_positives"].tolist() == [0.25, 1.0]
    assert table["count"].tolist() == [4, 2]


def test_counts_belong_to_their_means_also_at_the_edges_of_bins():
    scores = np.array([0.0, 0.1, 0.1, 0.5, 0.7, 0.9, 1.0])
    table = reliability_table(np.array([0, 1, 0, 1, 0, 1, 1]), scores)
    assert table["count"].sum() == 7
    assert (table["count"] * table["mean_score"]).sum() == pytest.approx(scores.sum())
    assert (table["count"] * table["share_of_positives"]).sum() == pytest.approx(4)


def test_table_of_nothing_has_no_rows():
    assert reliability_table(np.array([], dtype=np.int64), np.array([])).empty


@pytest.mark.parametrize("num", [1, 7, 120, 5000])
def test_the_error_by_chance_is_the_mean_error_of_labels_drawn_with_the_scores(num):
    generator = np.random.default_rng(0)
    scores = generator.beta(0.5, 1.0, num)
    drawn_errors = [calibration_errors(generator.random(num) < scores, scores)["ece"] for _ in range(400)]
    assert chance_error(scores) == pytest.approx(np.mean(drawn_errors), rel=0.06)


def test_the_error_by_chance_by_hand():
    # Two coins: the share of heads is 0, 1/2 or 1 with probabilities 1/4, 1/2 and 1/4.
    assert chance_error(np.array([0.5, 0.5])) == pytest.approx(0.25)
    assert chance_error(np.array([0.0, 1.0, 1.0])) == 0.0
    assert np.isnan(chance_error(np.array([])))
    assert np.isnan(chance_error(np.array([0.5, np.nan])))
