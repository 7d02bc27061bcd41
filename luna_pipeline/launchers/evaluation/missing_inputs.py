"""Inputs of an asset that are not made, all at once; and the baselines that the job `evaluate` makes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luna_pipeline.core.datasets.splits import fold_fingerprint
from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.training.checkpoints import load_checkpoint
from luna_pipeline.launchers.cross_validation import CurrentClassifier, PooledFolds, trained_folds
from luna_pipeline.launchers.installation import MODELS_TABLES, read_table
from luna_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

BASELINES = {
    "nodule_classifier": ("zero_rule_baseline", "feature_baseline"),
    "malignancy_classifier": ("malignancy_feature_baseline",),
}
"""Baselines that are scored with each classifier, in the order in which they are made."""


@dataclass(frozen=True, kw_only=True)
class MissingBaseline:
    """A baseline of a fold that is to be made.

    Attributes:
        asset: Its asset.
        fold: The test fold.
        validation_fold: The classifier's validation fold; None without one.
        reason: Why it is to be made.
    """

    asset: str
    fold: int
    validation_fold: int | None
    reason: str


def missing_inputs(settings: Settings, assets: Iterable[str], fold: int | None) -> FileNotFoundError | None:
    """Return the error that names all of the assets that are not made; None if there are no such assets.

    Args:
        settings: The installation.
        assets: Assets with a table, or with classifiers.
        fold: Test fold of those that are partitioned; None without one.
    """
    missing = [asset for asset in assets if not _is_made(settings, asset, fold)]
    if not missing:
        return None
    names = ", ".join(f"`{asset}`" for asset in missing) + ("" if fold is None else f" of fold {fold}")
    msg = f"Inputs must be made before they are read, got no {names} (in {settings.home})."
    return FileNotFoundError(f"{msg} Materialize {names} first.")


def missing_predictions(settings: Settings, asset: str, folds: Iterable[int]) -> FileNotFoundError | None:
    """Return the error that names all folds without predictions of ``asset``; None if there are no such folds."""
    missing = [fold for fold in folds if not _is_made(settings, asset, fold)]
    if not missing:
        return None
    shown = f"fold{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
    msg = f"Folds must be scored before they are reported, got no `{asset}` of {shown} (in {settings.tables_dir})."
    return FileNotFoundError(f"{msg} Run the job `evaluate`, or materialize `{asset}` of {shown}.")


def missing_baselines(settings: Settings, pooled: PooledFolds) -> Iterator[MissingBaseline]:
    """Yield the baselines of pooled folds that are not there or are of other cutouts than the current ones."""
    index = read_table(settings, "cutout_index")
    for classifier in pooled.classifiers:
        for asset in BASELINES[classifier.asset]:
            if reason := _reason_to_make(settings, asset, classifier.test_fold, index):
                yield MissingBaseline(
                    asset=asset,
                    fold=classifier.test_fold,
                    validation_fold=_validation_fold(settings, classifier, index),
                    reason=reason,
                )


def _reason_to_make(settings: Settings, asset: str, fold: int, index: "pd.DataFrame") -> str:
    if not _is_made(settings, asset, fold):
        return "it is missing"
    if asset not in MODELS_TABLES:
        return ""
    if not _is_made(settings, MODELS_TABLES[asset], fold):
        return "its table of models is missing"
    digests = set(read_table(settings, MODELS_TABLES[asset], fold)["fold_digest"])
    return "" if digests == {fold_fingerprint(index, fold)} else "it is of other cutouts"


def _validation_fold(settings: Settings, classifier: CurrentClassifier, index: "pd.DataFrame") -> int | None:
    """Return the fold of a classifier's validation series, so that its baselines use the same one."""
    series = load_checkpoint(settings.home / classifier.path).validation_series
    folds = index.loc[index["series_instance_uid"].isin(series), "fold"].unique()
    return int(folds[0]) if len(folds) == 1 else None


def _is_made(settings: Settings, asset: str, fold: int | None) -> bool:
    tables = settings.tables_dir
    if exists(tables / f"{asset}.parquet"):
        return True
    is_table = fold is not None and exists(tables / f"{asset}/{fold}.parquet")
    return is_table or (fold is not None and fold in trained_folds(settings, asset))
