"""Reference scores and importances compared with results by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.baselines.feature_model import FeatureModel
from luna_pipeline.core.baselines.features import FEATURE_NAMES
from luna_pipeline.core.evaluation.baselines import importances, middle_hu, zero_rule


class Store:
    """Return a store of two series that counts its reads."""

    def __init__(self, chunks: dict[str, np.ndarray]) -> None:
        self.chunks = chunks
        self.reads: list[str] = []

    def read(self, uid: str) -> SimpleNamespace:
        self.reads.append(uid)
        return SimpleNamespace(ct_chunks=self.chunks[uid])


def test_zero_rule_is_the_share_of_nodules_in_training():
    assert zero_rule(pd.DataFrame({"class": np.array([1, 0, 0, 0], dtype=np.int8)})) == 0.25


def test_zero_rule_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one training candidate, got none"):
        zero_rule(pd.DataFrame({"class": []}))


def test_middle_hu_maps_the_window_to_scores_in_the_order_of_the_index():
    a = np.full((2, 32, 48, 48), -1000, dtype=np.int16)
    a[1] = 0
    b = np.full((1, 32, 48, 48), 1000, dtype=np.int16)
    store = Store({"a": a, "b": b})
    index = pd.DataFrame({"series_instance_uid": ["a", "b", "a"], "row": [1, 0, 0]})

    assert middle_hu(index, store).tolist() == [0.5, 1.0, 0.0]
    assert store.reads == ["a", "b"]


def test_middle_hu_looks_at_the_five_voxels_around_the_candidate_only():
    chunk = np.full((1, 32, 48, 48), 1000, dtype=np.int16)
    # The candidate's voxel is (16, 24, 24); air around the middle 5x5x5 must not change the score.
    chunk[0, 14:19, 22:27, 22:27] = -1000
    chunk[0, 16, 24, 24] = 1000
    index = pd.DataFrame({"series_instance_uid": ["a"], "row": [0]})

    assert middle_hu(index, Store({"a": chunk}))[0] == pytest.approx(1 / 125)


@pytest.fixture(scope="module")
def boosted():
    """Return a fitted baseline whose first feature alone is informative, with its features and labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    features = rng.normal(size=(400, len(FEATURE_NAMES)))
    features[:, 0] = 10 * labels
    model = FeatureModel("gradient_boosting", seed=0)
    model.fit(features, labels)
    return model, features, labels


def test_shuffling_the_feature_that_says_all_leaves_chance_and_shuffling_another_nothing(boosted):
    table = importances(*boosted, seed=0)
    assert table["feature"].tolist() == list(FEATURE_NAMES)
    assert table["permutation_importance"][0] == pytest.approx(0.5, abs=0.06)
    assert table["permutation_importance"][1:].abs().max() == 0
    assert table["standardised_coefficient"].isna().all()


def test_importances_follow_from_the_seed_and_leave_the_features_alone(boosted):
    features = boosted[1]
    before = features.copy()
    pd.testing.assert_frame_equal(importances(*boosted, seed=1), importances(*boosted, seed=1))
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize("rows", [slice(0, 0), slice(0, None, 2)])
def test_without_both_classes_to_judge_by_an_importance_is_nan(boosted, rows):
    model, features, labels = boosted
    assert importances(model, features[rows], labels[rows], seed=0)["permutation_importance"].isna().all()
