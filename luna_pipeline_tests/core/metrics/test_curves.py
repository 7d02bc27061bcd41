"""Points and areas of the curves, compared with sklearn's."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from luna_pipeline.core.metrics.curves import score_curve


def test_equal_scores_are_one_point_and_infinite_ones_are_two():
    curve = score_curve(np.array([1, 0, 0, 1, 1]), np.array([0.5, 0.5, -np.inf, 0.5, np.inf]))
    assert curve.thresholds.tolist() == [np.inf, 0.5, -np.inf]
    assert curve.true_positives.tolist() == [1, 3, 3]
    assert curve.false_positives.tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_curves_and_areas_are_sklearns(seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.permutation([0, 1, *rng.integers(2, size=3 * seed)])
    scores = np.round(rng.random(len(labels)), 1 + seed % 3)
    curve = score_curve(labels, scores)
    # sklearn's first point is above all scores.
    rates, sensitivities, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_array_equal(curve.false_positive_rates, rates[1:])
    np.testing.assert_array_equal(curve.sensitivities, sensitivities[1:])
    np.testing.assert_array_equal(curve.thresholds, thresholds[1:])
    assert curve.area == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert curve.average_precision == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    precisions = curve.true_positives / (curve.true_positives + curve.false_positives)
    np.testing.assert_array_equal(precisions[::-1], precision_recall_curve(labels, scores)[0][:-1])
