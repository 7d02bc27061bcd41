"""Baselines against answers by hand, and against themselves."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader

from luna_pipeline.core.baselines.feature_model import ESTIMATORS, FeatureModel, ZeroRule
from luna_pipeline.core.baselines.features import FEATURE_NAMES, BatchFeatures, features_of_index
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.datasets.cutouts import CutoutsDataset, identity
from luna_pipeline.core.models.base import Signature, TensorSpec
from luna_pipeline_tests.core.cutout_examples import write_examples

NAMES = ["logistic_regression", "gradient_boosting"]
NUM_FEATURES = len(FEATURE_NAMES)


def no_batches(chunks_hu, candidate_id):
    raise AssertionError("this test fits tables only")


def table_model(name: str, seed: int = 0) -> FeatureModel:
    return FeatureModel(name, features_of=no_batches, seed=seed)


def made_table(count: int = 300, *, share: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of which the first one tells the classes apart, mostly, and the others nothing."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < share).astype(np.int64)
    features = rng.normal(size=(count, NUM_FEATURES))
    features[:, 0] += 2 * labels
    return features, labels


@pytest.mark.parametrize("name", NAMES)
def test_two_fits_give_equal_scores(name):
    features, labels = made_table()
    first, second = table_model(name), table_model(name)
    first.fit(features, labels)
    second.fit(features, labels)
    np.testing.assert_array_equal(first.score(features), second.score(features))


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_forgets_the_one_before(name):
    features, labels = made_table()
    fresh, used = table_model(name), table_model(name)
    used.fit(*made_table(seed=1))
    used.fit(features, labels)
    fresh.fit(features, labels)
    np.testing.assert_array_equal(used.score(features), fresh.score(features))


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_probabilities_at_the_training_share(name):
    model = table_model(name)
    model.fit(*made_table(3000, share=0.1))
    scores = model.score(made_table(3000, share=0.1, seed=1)[0])
    assert 0 <= scores.min() < scores.max() <= 1
    # Classes that were weighted alike would bring the mean to about a quarter.
    assert scores.mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_undefined_features_are_taken(name):
    features, labels = made_table()
    features[::3, 1] = np.nan
    features[:, 2] = np.nan
    model = table_model(name)
    model.fit(features, labels)
    scores = model.score(features)
    assert np.isfinite(scores).all()
    # A feature that no training candidate had is not looked at.
    features[:, 2] = 1000
    np.testing.assert_array_equal(model.score(features), scores)


def test_logistic_regression_puts_the_training_median_where_a_feature_is_undefined():
    features, labels = made_table()
    model = table_model("logistic_regression")
    model.fit(features, labels)
    unknown, median = features[:1].copy(), features[:1].copy()
    unknown[0, 0], median[0, 0] = np.nan, np.median(features[:, 0])
    assert model.score(unknown) == pytest.approx(model.score(median))


def test_coefficients_are_those_of_standardised_features():
    features, labels = made_table()
    model = table_model("logistic_regression")
    model.fit(features, labels)
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    expected = LogisticRegression(max_iter=1000).fit(standardised, labels).coef_[0]
    np.testing.assert_allclose(model.standardised_coefficients, expected, rtol=1e-3, atol=1e-4)
    assert np.argmax(np.abs(expected)) == 0


def test_boosted_trees_have_no_coefficients():
    model = table_model("gradient_boosting")
    model.fit(*made_table())
    assert model.standardised_coefficients is None


def test_parameters_are_counted():
    features, labels = made_table()
    linear, trees = (table_model(name) for name in NAMES)
    for model in (linear, trees):
        model.fit(features, labels)
    assert linear.num_parameters == NUM_FEATURES + 1
    # A hundred trees, and of each one's nodes the leaves are one more than the splits.
    leaves = [of_turn[0].get_n_leaf_nodes() for of_turn in trees._estimator._predictors]
    assert len(leaves) == 100
    assert max(leaves) > 2
    assert trees.num_parameters == sum(2 * count - 1 for count in leaves)


def test_the_zero_rule_gives_the_share_to_everyone():
    model = ZeroRule()
    model.fit(np.empty((4, 0)), np.array([1, 0, 0, 0]))
    assert model.score(np.empty((2, 0))).tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    "model", [ZeroRule(), table_model("gradient_boosting")], ids=["zero_rule", "gradient_boosting"]
)
def test_a_model_that_has_not_learned_does_not_score(model):
    with pytest.raises(ValueError, match="must learn before it scores"):
        model.score(np.zeros((1, len(model.feature_names))))


def test_what_cannot_be_learned_from_is_refused():
    features, labels = made_table()
    with pytest.raises(ValueError, match="at least one candidate, got 0 for 0"):
        ZeroRule().fit(np.empty((0, 0)), np.empty(0, dtype=np.int64))
    with pytest.raises(ValueError, match=r"of the classes \[1\] \(gradient_boosting\)"):
        table_model("gradient_boosting").fit(features, np.ones_like(labels))
    with pytest.raises(ValueError, match=rf"must have {NUM_FEATURES} columns, got the shape \(300, 3\)"):
        table_model("gradient_boosting").fit(features[:, :3], labels)


def test_an_unknown_estimator_is_refused_by_name():
    with pytest.raises(ValueError, match="must be one of logistic_regression, gradient_boosting, got 'forest'"):
        table_model("forest")


def test_an_estimator_of_ones_own_is_registered_by_name():
    @ESTIMATORS.register("stump")
    def stump(seed: int):
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=2, random_state=seed)

    try:
        model = table_model("stump")
        model.fit(*made_table())
        assert len(np.unique(model.score(made_table()[0]))) == 2
    finally:
        ESTIMATORS.forget("stump")


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory):
    """Index rows and store of 72 small cutouts, a third of them with a dense ball in the middle."""
    root = tmp_path_factory.mktemp("cutouts")
    folds = {f"1.{number}": number // 2 for number in range(6)}
    return write_examples(root, folds=folds, num_per_series=12, shape_irc=(9, 9, 9))


def loader(index, store, batch_size: int = 10) -> DataLoader:
    return DataLoader(CutoutsDataset(index, store), batch_size=batch_size, collate_fn=identity)


def fitted_by_loader(name: str, cutouts) -> tuple:
    index, store = cutouts
    is_training = index["fold"] < 2
    model = FeatureModel(name, features_of=BatchFeatures(index, store), seed=0)
    result = model.fit_epoch(
        1, training_loader=loader(index[is_training], store), validation_loader=loader(index[~is_training], store)
    )
    return model, result, index[is_training], index[~is_training]


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_of_batches_learns_what_the_table_of_features_teaches(name, cutouts):
    _, result, training, validation = fitted_by_loader(name, cutouts)
    model, store = table_model(name), cutouts[1]
    model.fit(features_of_index(training, store).to_numpy(), training["class"].to_numpy(dtype=np.int64))
    expected = model.score(features_of_index(validation, store).to_numpy())
    np.testing.assert_allclose(result.validation.scores, expected)
    assert result.validation.metrics()["auc"] == 1.0


def test_an_epoch_returns_every_sample_once_with_the_loss_of_its_score(cutouts):
    _, result, training, validation = fitted_by_loader("gradient_boosting", cutouts)
    assert result.training.candidate_id.tolist() == training["candidate_id"].tolist()
    assert result.validation.candidate_id.tolist() == validation["candidate_id"].tolist()
    assert result.validation.labels.tolist() == validation["class"].tolist()
    scores, labels = result.validation.scores, result.validation.labels
    np.testing.assert_allclose(result.validation.losses, -np.log(np.where(labels == 1, scores, 1 - scores)))


@pytest.mark.seed_defect(39, 49)
def test_validation_teaches_nothing_and_without_it_there_is_no_validation_score(cutouts):
    index, store = cutouts
    is_training = index["fold"] < 2
    model = FeatureModel("logistic_regression", features_of=BatchFeatures(index, store), seed=0)
    result = model.fit_epoch(1, training_loader=loader(index[is_training], store), validation_loader=None)
    assert result.validation is None
    _, with_validation, *_ = fitted_by_loader("logistic_regression", cutouts)
    np.testing.assert_array_equal(result.training.scores, with_validation.training.scores)


def test_the_zero_rule_learns_from_batches_too(cutouts):
    index, store = cutouts
    result = ZeroRule().fit_epoch(1, training_loader=loader(index, store), validation_loader=loader(index, store))
    assert set(result.validation.scores) == {index["class"].mean()}
    assert result.validation.metrics()["auc"] == 0.5
    share = index["class"].mean()
    assert result.validation.loss == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share))


def test_batches_are_scored_in_their_order(cutouts):
    model, result, _, validation = fitted_by_loader("logistic_regression", cutouts)
    candidate_id, scores = model.predict(loader(validation, cutouts[1], batch_size=7))
    assert candidate_id.tolist() == validation["candidate_id"].tolist()
    np.testing.assert_allclose(scores, result.validation.scores)


def test_fillers_of_a_batch_do_not_count(cutouts):
    index, store = cutouts
    (batch,) = loader(index, store, batch_size=len(index))
    is_filler = np.arange(len(index)) % 6 == 0
    repeat = batch.repeat.clone()
    repeat[is_filler] = -1
    filled: CutoutBatch = batch._replace(repeat=repeat)
    model = ZeroRule()
    result = model.fit_epoch(1, training_loader=[filled], validation_loader=None)
    assert result.training.candidate_id.tolist() == index["candidate_id"][~is_filler].tolist()
    assert model.score(np.empty((1, 0)))[0] == index["class"][~is_filler].mean()


def test_a_model_takes_features_and_gives_probabilities():
    assert table_model("gradient_boosting").get_signature() == Signature(
        inputs=(TensorSpec("features", "float64", (-1, NUM_FEATURES)),),
        outputs=(TensorSpec("probability", "float64", (-1,)),),
    )
    assert not hasattr(table_model("gradient_boosting"), "get_module")
