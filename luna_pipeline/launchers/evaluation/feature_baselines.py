"""Feature baselines: fitted on the training folds, scored on the same test fold as the networks."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from luna_pipeline.core.baselines.feature_model import FeatureModel
from luna_pipeline.core.baselines.features import features_of_index
from luna_pipeline.core.cutouts.store import CutoutSource
from luna_pipeline.core.datasets.splits import TrainingSplit, fold_fingerprint, index_fingerprint, split_index
from luna_pipeline.core.evaluation.baselines import importances
from luna_pipeline.core.metrics.decision import UNDECIDED, Decision
from luna_pipeline.launchers.evaluation.scoring import labelled, prediction_rows

FEATURE_BASELINES = ("logistic_regression", "gradient_boosting")


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureBaseline:
    """A fitted baseline and the series that it has seen.

    Attributes:
        model: The classifier; its name is that of the predictions.
        decision: Thresholds and calibration from the validation fold, ``UNDECIDED`` without one.
        importances: Importance of each feature, see ``core.evaluation.baselines.importances``.
        seen_series: Series of the training and validation folds.
        training_seconds: Wall time of the fit, without computing the features.
        seconds: Wall time of fit, decision and importances.
    """

    model: FeatureModel
    decision: Decision
    importances: pd.DataFrame
    seen_series: frozenset[str]
    training_seconds: float
    seconds: float

    def predict_table(self, index: pd.DataFrame, candidates: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
        """Score candidates and return them as rows of the table of predictions, see ``prediction_rows``.

        Raises:
            ValueError: If the model has seen one of the series.
        """
        if seen := sorted(self.seen_series & set(index["series_instance_uid"])):
            msg = (
                f"A baseline must not be tested on what it has seen, got {len(seen)} such series (the first {seen[0]}, "
                f"{self.model.name}). Fit it with this test fold."
            )
            raise ValueError(msg)
        scores = self.model.score(_values(features, index))
        return prediction_rows(index, candidates, scores, model=self.model.name, decision=self.decision)


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedBaselines:
    """The baselines of one split and their scores of the test fold.

    Attributes:
        baselines: In the requested order.
        predictions: One row per candidate of the test fold and baseline: ``PREDICTION_COLUMNS`` and
            ``DECISION_COLUMNS``.
        num_candidates: Number of candidates of ``training``, ``validation`` and ``test``.
        num_undefined: Number of candidates without a feature, by its name; features that all have are left out.
        seconds_of_features: Wall time of computing all features, once for all baselines.
        fold_digest: ``fold_fingerprint`` of the test fold.
        index_digest: ``index_fingerprint`` of the whole index.
    """

    baselines: tuple[FeatureBaseline, ...]
    predictions: pd.DataFrame
    num_candidates: dict[str, int]
    num_undefined: dict[str, int]
    seconds_of_features: float
    fold_digest: str
    index_digest: str

    @property
    def importances(self) -> pd.DataFrame:
        """One row per baseline and feature."""
        return pd.concat([baseline.importances for baseline in self.baselines], ignore_index=True)

    @property
    def candidates_per_second(self) -> float:
        """Speed of computing the features."""
        return sum(self.num_candidates.values()) / self.seconds_of_features


def fit_feature_baselines(
    *,
    index: pd.DataFrame,
    candidates: pd.DataFrame,
    store: CutoutSource,
    split: TrainingSplit,
    dataset: str = "cutouts",
    estimators: Sequence[str] = FEATURE_BASELINES,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> FittedBaselines:
    """Fit baselines on the training folds, choose thresholds on the validation fold, score the test fold.

    Classes are not balanced: each training candidate is used once.

    Args:
        index: The cutout index.
        candidates: The candidate table, for the positions.
        store: Source of the cutouts.
        split: Test and validation fold; the baselines are fitted on the others.
        dataset: The task: ``cutouts`` nodules, ``malignant_cutouts`` malignant ones.
        estimators: Names of ``ESTIMATORS``.
        seed: Seed of the estimators and of the importances.
        on_progress: Called after each series with the numbers of finished and of all candidates.

    Raises:
        ValueError: If index, cutouts, split and names do not fit each other.
        FileNotFoundError: If a series was not cut.
    """
    rows = labelled(index, store, dataset)
    training, validation, test = split_index(rows, split)
    validation = training.iloc[:0] if validation is None else validation
    parts = {"training": training, "validation": validation, "test": test}
    started = time.perf_counter()
    features = features_of_index(pd.concat(parts.values()), store, on_progress=on_progress)
    seconds = time.perf_counter() - started
    models = [FeatureModel(name, seed=seed) for name in estimators]
    baselines = tuple(_fitted(model, features, training, validation, seed=seed) for model in models)
    undefined = features.isna().sum()
    return FittedBaselines(
        baselines=baselines,
        predictions=pd.concat(
            [baseline.predict_table(test, candidates, features) for baseline in baselines], ignore_index=True
        ),
        num_candidates={name: len(part) for name, part in parts.items()},
        num_undefined={str(name): int(count) for name, count in undefined[undefined > 0].items()},
        seconds_of_features=seconds,
        fold_digest=fold_fingerprint(index, split.test_fold),
        index_digest=index_fingerprint(index),
    )


def _fitted(
    model: FeatureModel, features: pd.DataFrame, training: pd.DataFrame, validation: pd.DataFrame, *, seed: int
) -> FeatureBaseline:
    started = time.perf_counter()
    model.fit(_values(features, training), _labels(training))
    training_seconds = time.perf_counter() - started
    held_out, labels = _values(features, validation), _labels(validation)
    series = validation["series_instance_uid"].to_numpy()
    return FeatureBaseline(
        model=model,
        decision=Decision.of(labels, model.score(held_out), series) if len(labels) else UNDECIDED,
        importances=importances(model, held_out, labels, seed=seed),
        seen_series=frozenset({*training["series_instance_uid"], *validation["series_instance_uid"]}),
        training_seconds=training_seconds,
        seconds=time.perf_counter() - started,
    )


def _values(features: pd.DataFrame, rows: pd.DataFrame) -> NDArray[np.float64]:
    return features.loc[rows["candidate_id"]].to_numpy(dtype=np.float64)


def _labels(rows: pd.DataFrame) -> NDArray[np.int64]:
    return rows["class"].to_numpy(dtype=np.int64)
