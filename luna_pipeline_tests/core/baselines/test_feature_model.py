"""Feature models: scores, coefficients, determinism and errors."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from luna_pipeline.core.baselines.feature_model import ESTIMATORS, FeatureModel
from luna_pipeline.core.baselines.features import FEATURE_NAMES

NAMES = ["logistic_regression", "gradient_boosting"]
NUM_FEATURES = len(FEATURE_NAMES)


def made_table(count: int = 300, *, share: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels; only the first feature depends on the label."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < share).astype(np.int64)
    features = rng.normal(size=(count, NUM_FEATURES))
    features[:, 0] += 2 * labels
    return features, labels


@pytest.mark.parametrize("name", NAMES)
def test_two_fits_give_equal_scores(name):
    features, labels = made_table()
    first, second = FeatureModel(name, seed=0), FeatureModel(name, seed=0)
    first.fit(features, labels)
    second.fit(features, labels)
    np.testing.assert_array_equal(first.score(features), second.score(features))


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_forgets_the_one_before(name):
    features, labels = made_table()
    fresh, used = FeatureModel(name, seed=0), FeatureModel(name, seed=0)
    used.fit(*made_table(seed=1))
    used.fit(features, labels)
    fresh.fit(features, labels)
    np.testing.assert_array_equal(used.score(features), fresh.score(features))


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_probabilities_at_the_training_share(name):
    model = FeatureModel(name, seed=0)
    model.fit(*made_table(3000, share=0.1))
    scores = model.score(made_table(3000, share=0.1, seed=1)[0])
    assert 0 <= scores.min() < scores.max() <= 1
    # With balanced class weights the mean would be about a quarter.
    assert scores.mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_undefined_features_are_taken(name):
    features, labels = made_table()
    features[::3, 1] = np.nan
    features[:, 2] = np.nan
    model = FeatureModel(name, seed=0)
    model.fit(features, labels)
    scores = model.score(features)
    assert np.isfinite(scores).all()
    # A feature that was undefined for all training candidates is ignored.
    features[:, 2] = 1000
    np.testing.assert_array_equal(model.score(features), scores)


def test_logistic_regression_puts_the_training_median_where_a_feature_is_undefined():
    features, labels = made_table()
    model = FeatureModel("logistic_regression", seed=0)
    model.fit(features, labels)
    unknown, median = features[:1].copy(), features[:1].copy()
    unknown[0, 0], median[0, 0] = np.nan, np.median(features[:, 0])
    assert model.score(unknown) == pytest.approx(model.score(median))


def test_coefficients_are_those_of_standardised_features():
    features, labels = made_table()
    model = FeatureModel("logistic_regression", seed=0)
    model.fit(features, labels)
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    expected = LogisticRegression(max_iter=1000).fit(standardised, labels).coef_[0]
    np.testing.assert_allclose(model.standardised_coefficients, expected, rtol=1e-3, atol=1e-4)
    assert np.argmax(np.abs(expected)) == 0


def test_boosted_trees_have_no_coefficients():
    model = FeatureModel("gradient_boosting", seed=0)
    model.fit(*made_table())
    assert model.standardised_coefficients is None


def test_parameters_are_counted():
    features, labels = made_table()
    linear, trees = (FeatureModel(name, seed=0) for name in NAMES)
    for model in (linear, trees):
        model.fit(features, labels)
    assert linear.num_parameters == NUM_FEATURES + 1
    # A hundred trees; each has one leaf more than splits.
    leaves = [of_turn[0].get_n_leaf_nodes() for of_turn in trees._estimator._predictors]
    assert len(leaves) == 100
    assert max(leaves) > 2
    assert trees.num_parameters == sum(2 * count - 1 for count in leaves)


def test_a_model_that_has_not_learned_does_not_score():
    with pytest.raises(ValueError, match=r"must be fitted before it scores, got an unfitted one \(gradient_boosting\)"):
        FeatureModel("gradient_boosting", seed=0).score(np.zeros((1, NUM_FEATURES)))


def test_what_cannot_be_learned_from_is_refused():
    features, labels = made_table()
    with pytest.raises(ValueError, match=r"of the classes \[1\] \(gradient_boosting\)"):
        FeatureModel("gradient_boosting", seed=0).fit(features, np.ones_like(labels))
    with pytest.raises(ValueError, match=rf"must have {NUM_FEATURES} columns, got the shape \(300, 3\)"):
        FeatureModel("gradient_boosting", seed=0).fit(features[:, :3], labels)


def test_an_unknown_estimator_is_refused_by_name():
    with pytest.raises(ValueError, match="must be one of logistic_regression, gradient_boosting, got 'forest'"):
        FeatureModel("forest", seed=0)


def test_an_estimator_of_ones_own_is_registered_by_name():
    @ESTIMATORS.register("stump")
    def stump(seed: int):
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=2, random_state=seed)

    try:
        model = FeatureModel("stump", seed=0)
        model.fit(*made_table())
        assert len(np.unique(model.score(made_table()[0]))) == 2
    finally:
        ESTIMATORS.forget("stump")
