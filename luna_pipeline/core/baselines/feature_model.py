"""Scikit-learn classifiers of tables of features, the baselines of the networks.

A fit is deterministic and takes minutes at most, so it is repeated instead of resumed.
"""

import contextlib
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController

from luna_pipeline.core.baselines.config import ESTIMATORS
from luna_pipeline.core.baselines.features import FEATURE_NAMES

Features = NDArray[np.float64]
Labels = NDArray[np.int64]


def logistic_regression(seed: int) -> Any:
    """Return a linear classifier of standardised features; the training median replaces undefined ones.

    Classes are not weighted, so that scores are probabilities.
    """
    return make_pipeline(
        SimpleImputer(strategy="median"),
        StandardScaler(),
        LogisticRegression(C=1.0, class_weight=None, max_iter=1000, random_state=seed),
    )


def gradient_boosting(seed: int) -> Any:
    """Return boosted trees, which have a branch for undefined features.

    Classes are not weighted, so that scores are probabilities. The number of trees is fixed: scikit-learn's early
    stopping would validate on candidates of the training CTs.
    """
    return HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=100,
        max_leaf_nodes=15,
        min_samples_leaf=20,
        l2_regularization=1.0,
        class_weight=None,
        early_stopping=False,
        random_state=seed,
    )


class FeatureModel:
    """A scikit-learn classifier of the features of ``core.baselines.features``.

    Attributes:
        name: The estimator's name in ``ESTIMATORS``.
    """

    feature_names = FEATURE_NAMES

    def __init__(self, name: str, *, seed: int) -> None:
        """Create an unfitted model.

        Args:
            name: One of ``ESTIMATORS``.
            seed: Seed of the classifier's random numbers.

        Raises:
            ValueError: If no estimator has that name.
        """
        self.name = name
        self._make = ESTIMATORS.get(name)
        self._seed = seed
        self._estimator: Any = None
        self._is_known: NDArray[np.bool_] = np.ones(len(FEATURE_NAMES), dtype=np.bool_)

    def fit(self, features: Features, labels: Labels) -> None:
        """Fit to features (N, F), nan where undefined, and labels (N,), 0 or 1; an earlier fit is discarded.

        Raises:
            ValueError: If the columns are not ``FEATURE_NAMES``, the lengths differ, or a class is missing.
        """
        _check_columns(features)
        if len(features) != len(labels) or set(np.unique(labels)) != {0, 1}:
            found = np.unique(labels).tolist()
            msg = f"Training must hold features and labels of both classes, got {len(features)} and {len(labels)}"
            raise ValueError(f"{msg} of the classes {found} ({self.name}). Choose other folds or add CTs.")
        self._is_known = np.asarray(np.isfinite(features).any(axis=0), dtype=np.bool_)
        with _one_thread():
            self._estimator = self._make(self._seed).fit(self._of_known(features), labels)

    def score(self, features: Features) -> NDArray[np.float64]:
        """Return the probability of label 1 (N,) for features (N, F).

        Raises:
            ValueError: If the columns are not ``FEATURE_NAMES``, or the model is not fitted.
        """
        self._check_fitted()
        _check_columns(features)
        with _one_thread():
            # The second column is that of class 1.
            return np.asarray(self._estimator.predict_proba(self._of_known(features))[:, 1], dtype=np.float64)

    @property
    def standardised_coefficients(self) -> NDArray[np.float64] | None:
        """Log odds per standard deviation of each feature (F,); None if the classifier is not linear."""
        coefficients = getattr(_last_step(self._estimator), "coef_", None)
        return None if coefficients is None else np.asarray(coefficients[0], dtype=np.float64)

    @property
    def num_parameters(self) -> int | None:
        """Number of fitted parameters: coefficients and intercept, or nodes of boosted trees; None if unknown."""
        self._check_fitted()
        last = _last_step(self._estimator)
        if hasattr(last, "coef_"):
            return int(last.coef_.size + last.intercept_.size)
        if isinstance(last, HistGradientBoostingClassifier):
            # scikit-learn has no public attribute for the trees.
            return sum(len(tree.nodes) for trees in last._predictors for tree in trees)
        return None

    def _of_known(self, features: Features) -> Features:
        """Return the features with 0 in the columns that were undefined for all training candidates."""
        return np.where(self._is_known, features, 0.0)

    def _check_fitted(self) -> None:
        if self._estimator is None:
            msg = f"A model must be fitted before it scores, got an unfitted one ({self.name}). Call fit first."
            raise ValueError(msg)


def _check_columns(features: Features) -> None:
    if features.ndim != 2 or features.shape[1] != len(FEATURE_NAMES):
        msg = f"Features must have {len(FEATURE_NAMES)} columns, got the shape {features.shape}"
        raise ValueError(f"{msg}. Make them with features_of_index.")


def _one_thread() -> contextlib.AbstractContextManager[Any]:
    """Limit OpenMP to one thread: more are slower for so few rows on a busy machine."""
    limits: contextlib.AbstractContextManager[Any] = _threadpools().limit(limits=1, user_api="openmp")
    return limits


@functools.cache
def _threadpools() -> ThreadpoolController:
    """Return the thread pools; finding them takes 5 ms, and importances need hundreds of scores."""
    return ThreadpoolController()


def _last_step(estimator: Any) -> Any:
    return estimator[-1] if hasattr(estimator, "steps") else estimator
