"""Classifiers that are no networks: what a network has to beat, trained and judged on the same batches.

They have ``fit_epoch`` and ``get_signature`` of ``BaseModel`` and stop there. There is no network in them, so
``get_module``, ``get_state`` and ``load_state`` are left out: a trainer that asks for them is refused by the type
checker and not in mid-run. A fit takes minutes and is deterministic: it is repeated, not resumed.
"""

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController
from torch.utils.data import DataLoader

from luna_pipeline.core.baselines.features import FEATURE_NAMES
from luna_pipeline.core.config.registry import Registry
from luna_pipeline.core.datasets.batch import CutoutBatch
from luna_pipeline.core.models.base import EpochResult, Signature, SplitResult, TensorSpec

Features = NDArray[np.float64]
Labels = NDArray[np.int64]
FeaturesOf = Callable[[NDArray[np.floating[Any]], NDArray[np.int64]], Features]
"""Maps the HU (N, 1, I, R, C) and the ids (N,) of a batch to features (N, F), such as ``BatchFeatures``."""

ESTIMATORS: Registry[Callable[[int], Any]] = Registry(
    "estimator",
    {
        "logistic_regression": f"{__name__}:logistic_regression",
        "gradient_boosting": f"{__name__}:gradient_boosting",
    },
)
"""Makes an unfitted scikit-learn classifier from a seed, by name; it must take nan."""

# A score of 0 for a nodule would be an endless loss.
_LEAST_PROBABILITY = 1e-15


def logistic_regression(seed: int) -> Any:
    """Return a linear classifier of standardised features; undefined ones are the training candidates' median.

    Classes are not weighted: scores stay probabilities.
    """
    return make_pipeline(
        SimpleImputer(strategy="median"),
        StandardScaler(),
        LogisticRegression(C=1.0, class_weight=None, max_iter=1000, random_state=seed),
    )


def gradient_boosting(seed: int) -> Any:
    """Return boosted trees; an undefined feature goes its own way in each of them.

    Classes are not weighted: scores stay probabilities. The number of trees is fixed: scikit-learn's early stopping
    would hold single candidates out, whose neighbours of the same CT are trained on.
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


class BaselineModel(ABC):
    """A classifier of tables of features that can also be trained on batches of cutouts, as a network is.

    Attributes:
        feature_names: What the columns of its tables are.
    """

    feature_names: tuple[str, ...]

    def __init__(self, features_of: FeaturesOf) -> None:
        """Say where the features of a batch come from.

        Args:
            features_of: Maps the HU and ids of a batch to features.
        """
        self._features_of = features_of

    @abstractmethod
    def fit(self, features: Features, labels: Labels) -> None:
        """Learn from features (N, F) and labels (N,), 0 or 1; what was learned before is forgotten.

        Raises:
            ValueError: If they are not of one length or hold too little to learn from.
        """

    @abstractmethod
    def score(self, features: Features) -> NDArray[np.float64]:
        """Return the probability of label 1 (N,) for features (N, F).

        Raises:
            ValueError: If the columns are not those of ``feature_names``, or nothing was learned yet.
        """

    def fit_epoch(
        self,
        epoch: int,
        *,
        training_loader: DataLoader[CutoutBatch],
        validation_loader: DataLoader[CutoutBatch] | None,
    ) -> EpochResult:
        """Learn from all batches at once; then judge the validation part, where there is one.

        One epoch is all there is to learn: another one begins anew. Scores are probabilities at the loader's share of
        label 1, so give one that shows each candidate once (``DataLoader`` of a ``CutoutsDataset``) where they are to
        hold for the candidates as they are.

        Args:
            epoch: The epoch, from 1; changes nothing.
            training_loader: What is learned from.
            validation_loader: What is judged only.

        Returns:
            The judgement of both; that of the training part is by the fitted model, on what it knows.
        """
        training, features = self._read(training_loader)
        self.fit(features, training.labels)
        judged = self._judged(training, features)
        return EpochResult(judged, None if validation_loader is None else self._judged(*self._read(validation_loader)))

    def predict(self, batches: Iterable[CutoutBatch]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return candidate ids (N,) and their scores (N,) in [0, 1], in the order of the batches."""
        samples, features = self._read(batches)
        return samples.candidate_id, self.score(features)

    def get_signature(self) -> Signature:
        """Say what the model takes and gives: features, because voxels alone do not say how large they are."""
        return Signature(
            inputs=(TensorSpec("features", "float64", (-1, len(self.feature_names))),),
            outputs=(TensorSpec("probability", "float64", (-1,)),),
        )

    def _read(self, batches: Iterable[CutoutBatch]) -> tuple[SplitResult, Features]:
        """Return who is in the batches, without a judgement, and their features."""
        parts, features = [], []
        for batch in batches:
            # A filler only keeps processes in step.
            is_counted = batch.repeat.numpy() >= 0
            candidate_id = batch.candidate_id.numpy()[is_counted]
            features.append(self._features_of(batch.chunks_hu.numpy()[is_counted], candidate_id))
            nothing = np.full(len(candidate_id), np.nan)
            labels, groups = (part.numpy()[is_counted] for part in (batch.labels, batch.groups))
            parts.append(SplitResult(candidate_id, labels, scores=nothing, losses=nothing, groups=groups))
        return SplitResult.joined(parts), np.concatenate(features)

    def _judged(self, samples: SplitResult, features: Features) -> SplitResult:
        scores = self.score(features)
        of_label = np.where(samples.labels == 1, scores, 1 - scores)
        losses = -np.log(np.maximum(of_label, _LEAST_PROBABILITY))
        return SplitResult(samples.candidate_id, samples.labels, scores, losses, samples.groups)

    def _check_columns(self, features: Features) -> None:
        if features.ndim != 2 or features.shape[1] != len(self.feature_names):
            msg = f"Features must have {len(self.feature_names)} columns, got the shape {features.shape}"
            raise ValueError(f"{msg} ({type(self).__name__}). Make them with features_of_index.")


class ZeroRule(BaselineModel):
    """Gives every candidate the share of label 1 among those it learned from: the best score that looks at nothing."""

    feature_names = ()

    def __init__(self) -> None:
        super().__init__(lambda _chunks_hu, candidate_id: np.empty((len(candidate_id), 0)))
        self._share = np.nan

    def fit(self, features: Features, labels: Labels) -> None:
        """Learn the share of label 1; the features (N, 0) are not looked at."""
        if len(labels) == 0 or len(features) != len(labels):
            msg = f"The zero rule needs a label for at least one candidate, got {len(labels)} for {len(features)}."
            raise ValueError(f"{msg} Choose another fold.")
        self._share = float(labels.mean())

    def score(self, features: Features) -> NDArray[np.float64]:
        """Return the share of label 1 for each of N candidates."""
        _check_fitted(self, is_fitted=not np.isnan(self._share))
        return np.full(len(features), self._share)


class FeatureModel(BaselineModel):
    """A scikit-learn classifier of the features of ``core.baselines.features``.

    Attributes:
        name: Its name among ``ESTIMATORS``.
    """

    feature_names = FEATURE_NAMES

    def __init__(self, name: str, *, features_of: FeaturesOf, seed: int) -> None:
        """Choose the classifier.

        Args:
            name: One of ``ESTIMATORS``.
            features_of: Maps the HU and ids of a batch to features.
            seed: Of whatever the classifier draws.

        Raises:
            ValueError: If there is no estimator of that name.
        """
        super().__init__(features_of)
        self.name = name
        self._make = ESTIMATORS.get(name)
        self._seed = seed
        self._estimator: Any = None
        self._is_known: NDArray[np.bool_] = np.ones(len(self.feature_names), dtype=np.bool_)

    def fit(self, features: Features, labels: Labels) -> None:
        """Learn from features (N, F), nan where undefined, and labels (N,), 0 or 1."""
        self._check_columns(features)
        if len(features) != len(labels) or set(np.unique(labels)) != {0, 1}:
            found = np.unique(labels).tolist()
            msg = f"Training must hold features and labels of both classes, got {len(features)} and {len(labels)}"
            raise ValueError(f"{msg} of the classes {found} ({self.name}). Choose other folds or add CTs.")
        self._is_known = np.asarray(np.isfinite(features).any(axis=0), dtype=np.bool_)
        with _one_thread():
            self._estimator = self._make(self._seed).fit(self._of_known(features), labels)

    def score(self, features: Features) -> NDArray[np.float64]:
        """Return the probability of label 1 (N,) for features (N, F)."""
        _check_fitted(self, is_fitted=self._estimator is not None)
        self._check_columns(features)
        with _one_thread():
            # The classes are 0 and 1, so that the second column is that of 1.
            return np.asarray(self._estimator.predict_proba(self._of_known(features))[:, 1], dtype=np.float64)

    @property
    def standardised_coefficients(self) -> NDArray[np.float64] | None:
        """What a standard deviation of each feature adds to the log odds (F,); None of a classifier that is not linear.

        They are those of the last step of a pipeline that standardises, such as ``logistic_regression``.
        """
        coefficients = getattr(_last_step(self._estimator), "coef_", None)
        return None if coefficients is None else np.asarray(coefficients[0], dtype=np.float64)

    @property
    def num_parameters(self) -> int | None:
        """How many numbers were learned; None of a classifier that does not tell.

        A linear one has its coefficients and the intercept, boosted trees their nodes: a split or a leaf's value each.
        """
        _check_fitted(self, is_fitted=self._estimator is not None)
        last = _last_step(self._estimator)
        if hasattr(last, "coef_"):
            return int(last.coef_.size + last.intercept_.size)
        if isinstance(last, HistGradientBoostingClassifier):
            # scikit-learn has no public name for the trees.
            return sum(len(tree.nodes) for trees in last._predictors for tree in trees)
        return None

    def _of_known(self, features: Features) -> Features:
        """Return the features with 0 for those that no training candidate had: nothing can be learned from them."""
        return np.where(self._is_known, features, 0.0)


def _one_thread() -> contextlib.AbstractContextManager[Any]:
    """Compute with one thread: trees of so few rows gain nothing, and on a busy machine threads wait for each other."""
    limits: contextlib.AbstractContextManager[Any] = _threadpools().limit(limits=1, user_api="openmp")
    return limits


@functools.cache
def _threadpools() -> ThreadpoolController:
    """Thread pools of this process; finding them takes 5 ms, and a permutation importance scores hundreds of times."""
    return ThreadpoolController()


def _last_step(estimator: Any) -> Any:
    return estimator[-1] if hasattr(estimator, "steps") else estimator


def _check_fitted(model: BaselineModel, *, is_fitted: bool) -> None:
    if not is_fitted:
        msg = f"A model must learn before it scores, got none that has ({type(model).__name__}). Call fit first."
        raise ValueError(msg)
