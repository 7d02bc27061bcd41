"""Predictions of several test folds, pooled if they are comparable and none of the classifiers has seen its fold."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from luna_pipeline.core.cutouts.index import SAMPLED
from luna_pipeline.core.datasets.splits import fold_fingerprint, index_fingerprint
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.launchers.cross_validation import OLDER, CurrentClassifier, PooledFolds, pooled_folds, read_current
from luna_pipeline.launchers.evaluation.missing_inputs import missing_predictions
from luna_pipeline.launchers.installation import MODELS_TABLES, read_table, sample_of
from luna_pipeline.launchers.same_scans import read_same_scans
from luna_pipeline.launchers.seen_data import leaks_of_checkpoint
from luna_pipeline.settings import Settings

TRAINED_ON_OLDER = "trained on older cutouts"
PREDICTIONS_OF = {"nodule_classifier": "nodule_predictions", "malignancy_classifier": "malignancy_predictions"}


@dataclass(frozen=True, eq=False, kw_only=True)
class PooledPredictions:
    """Predictions of pooled folds, each candidate scored by models that have not seen its fold.

    Attributes:
        folds: The folds.
        predictions: The folds' tables of predictions, concatenated.
        models: The folds' tables of models, concatenated.
        left_out: Reason for each model that is left out.
        older: Models that were trained on other cutouts than the current ones, which they have scored.
        sample: How many of the folds' candidates were scored, in words; empty for all of them.
    """

    folds: PooledFolds
    predictions: pd.DataFrame
    models: pd.DataFrame
    left_out: dict[str, str]
    older: tuple[str, ...] = ()
    sample: str = ""

    @property
    def notes(self) -> list[str]:
        """Sentences that must stand beside the scores: of sampled candidates, or of models of other cutouts."""
        return [*filter(None, [self.sample]), *self.older_notes]

    @property
    def older_notes(self) -> list[str]:
        """The same of models of other cutouts alone."""
        return [f"{model} {OLDER}" for model in self.older]

    @property
    def footnote(self) -> str:
        """The same in a few words, for pictures of all models; empty if there are none."""
        return self.footnote_of(*self.older)

    def footnote_of(self, *models: str) -> str:
        """The same for a picture of these models only."""
        older = [model for model in models if model in self.older]
        return self._in_words(f"{', '.join(older)} {TRAINED_ON_OLDER}" if older else "")

    def note_of(self, model: str) -> str:
        """The same for a model's row of a table."""
        return self._in_words(TRAINED_ON_OLDER if model in self.older else "")

    def noted(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table of these folds with the columns ``classifier_versions`` and ``notes``.

        Args:
            table: One row per model, or several: ``model``.
        """
        notes = table["model"].astype(str).map(self.note_of).astype(object)
        return table.assign(classifier_versions=self.folds.versions, notes=notes)

    def _in_words(self, older: str) -> str:
        return "; ".join(filter(None, [SAMPLED if self.sample else "", older]))


def pooled_predictions(settings: Settings, asset: str) -> PooledPredictions:
    """Pool the predictions of all models that have scored each fold with one recipe.

    Args:
        settings: The installation.
        asset: The classifier's asset.

    Raises:
        FileNotFoundError: If folds were not predicted; all of them are named.
        ValueError: If a fold was predicted by another version than the current one, on other than the current
            cutouts, or by a classifier that has seen it.
    """
    pooled, index = pooled_folds(settings, asset), read_table(settings, "cutout_index")
    if error := missing_predictions(settings, PREDICTIONS_OF[asset], pooled.folds):
        raise error
    models = pd.concat([_models_of(settings, of, index) for of in pooled.classifiers], ignore_index=True)
    folds, same_scans = read_table(settings, "folds"), read_same_scans(settings)
    predictions = [read_table(settings, PREDICTIONS_OF[asset], fold) for fold in pooled.folds]
    for classifier, rows in zip(pooled.classifiers, predictions, strict=True):
        _check_same_models(rows, models[models["fold"] == classifier.test_fold], classifier)
        checkpoint = load_checkpoint(settings.home / classifier.path)
        leaks_of_checkpoint(checkpoint, rows, folds, same_scans).refuse()
    left_out = _models_left_out(models, num_folds=len(pooled.folds))
    scores = pd.concat(predictions, ignore_index=True)
    models = models[~models["model"].isin(left_out)].reset_index(drop=True)
    return PooledPredictions(
        folds=pooled,
        predictions=scores[~scores["model"].isin(left_out)].reset_index(drop=True),
        models=models,
        left_out=left_out,
        older=tuple(_older_models(settings, models, index_fingerprint(index))),
        sample=sample_of(settings, index[index["fold"].isin(pooled.folds)]),
    )


def check_of_these_folds(table: pd.DataFrame, pooled: PooledFolds, name: str) -> None:
    """Check that a table was computed from the classifiers that are pooled now.

    Args:
        table: A table with the column ``classifier_versions``; without rows it passes.
        pooled: The folds.
        name: The table's asset.

    Raises:
        ValueError: If the table is of other classifiers.
    """
    if others := sorted(set(table["classifier_versions"]) - {pooled.versions}):
        msg = f"A table must be of the classifiers that are pooled, {pooled.versions}, got {others[0]} ({name})."
        raise ValueError(f"{msg} Materialize `{name}` again.")


def _models_of(settings: Settings, classifier: CurrentClassifier, index: pd.DataFrame) -> pd.DataFrame:
    name, fold = PREDICTIONS_OF[classifier.asset], classifier.test_fold
    models = read_table(settings, MODELS_TABLES[name], fold)
    versions = models.loc[models["model"] == classifier.asset, "version"].tolist()
    again = f"Materialize `{name}` of fold {fold} again."
    if versions != [classifier.version]:
        got = ", ".join(map(str, versions)) or "none"
        msg = f"Predictions must be of the current classifier, {classifier.version}, got those of {got} ({name})."
        raise ValueError(f"{msg} {again}")
    if set(models["fold_digest"]) != {fold_fingerprint(index, fold)}:
        msg = f"Predictions must be of the current cutouts, got those of others ({name} of fold {fold})."
        raise ValueError(f"{msg} {again}")
    return models


def _check_same_models(predictions: pd.DataFrame, models: pd.DataFrame, classifier: CurrentClassifier) -> None:
    """Check that predictions and models of a fold are of one run, which may have been killed between the two tables."""
    scored, listed = (set(table["model"]) for table in (predictions, models))
    if scored != listed:
        name, fold = PREDICTIONS_OF[classifier.asset], classifier.test_fold
        others = ", ".join(sorted(map(str, scored ^ listed)))
        msg = (
            f"Predictions and models of a fold must be of one run, got {others} in one of them ({name} of fold {fold})."
        )
        raise ValueError(f"{msg} Materialize `{name}` of fold {fold} again.")


def _older_models(settings: Settings, models: pd.DataFrame, index_digest: str) -> list[str]:
    """Return the models of which one or more folds were trained on another index, as far as that is recorded."""
    rows = [row for row in models.itertuples() if _trained_on(settings, row) not in {None, index_digest}]
    return list(dict.fromkeys(str(row.model) for row in rows))


def _trained_on(settings: Settings, row: Any) -> str | None:
    """Return the digest of the index that a model of a fold was trained on; None if it is not recorded."""
    if not isinstance(row.version, str):
        digest = getattr(row, "index_digest", None)
        return digest if isinstance(digest, str) else None
    try:
        current = read_current(settings, str(row.model), int(row.fold))
    except FileNotFoundError:
        return None
    return current.index_digest if current.version == row.version else None


def _models_left_out(models: pd.DataFrame, *, num_folds: int) -> dict[str, str]:
    """Return the reason for each model that cannot be compared with the others."""
    reasons = {}
    for model, rows in models.groupby("model", sort=False):
        if len(rows) < num_folds:
            reasons[str(model)] = f"{model} has not scored all of these folds, and is left out."
        elif rows["recipe_digest"].nunique() > 1:
            reasons[str(model)] = f"{model} is of several recipes in these folds, and is left out."
    return reasons
