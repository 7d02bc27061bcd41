"""Promotion of the champion: the only code that moves the alias `champion` of MLflow's registry."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import pandas as pd

from luna_pipeline.core.candidates.matching import POINT_COLUMNS
from luna_pipeline.core.evaluation.calibration import CalibrationError
from luna_pipeline.core.evaluation.promotion import Promotion, all_candidates, evaluate_promotion, unregistered
from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.storage.limited_disks import locked
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.launchers.evaluation.export_condition import export_condition
from luna_pipeline.launchers.evaluation.fold_predictions import ZERO_RULE
from luna_pipeline.launchers.evaluation.official_scores import reference_of
from luna_pipeline.launchers.evaluation.pooling import PooledPredictions, check_of_these_folds, pooled_predictions
from luna_pipeline.launchers.installation import checkpoint_store, read_table
from luna_pipeline.launchers.same_scans import read_same_scans
from luna_pipeline.launchers.seen_data import leaks_of_checkpoint
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_registry import champion_of, promote, registered_version_of

COLUMNS = [
    "champion",
    "registered_version",
    "candidate_id",
    "series_instance_uid",
    *POINT_COLUMNS,
    "fold",
    "probability",
]
NO_CHAMPION = "none"
CLASSIFIER = "nodule_classifier"


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """Result of a challenge.

    Attributes:
        promotion: The rule and its conditions.
        is_fine: Whether the challenger is the champion now, or was before.
        text: The result in a sentence.
        predictions: Predictions of the present champion, with ``COLUMNS``; no row without a champion.
    """

    promotion: Promotion
    is_fine: bool
    text: str
    predictions: pd.DataFrame

    @property
    def champion(self) -> str:
        """Name and version of the champion."""
        return NO_CHAMPION if self.predictions.empty else str(self.predictions["champion"].iloc[0])

    @property
    def registered_version(self) -> str:
        """The champion's version in MLflow's registry."""
        return NO_CHAMPION if self.predictions.empty else str(self.predictions["registered_version"].iloc[0])

    @property
    def folds(self) -> str:
        """The folds that the champion was scored on."""
        return ", ".join(str(fold) for fold in sorted(self.predictions["fold"].unique()))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Challenger:
    """A network of the leaderboard, with one checkpoint per fold."""

    model: str
    predictions: pd.DataFrame
    checkpoints: Mapping[int, Checkpoint]

    @property
    def chosen(self) -> Checkpoint:
        """The checkpoint with the highest validation score; test scores must not choose it."""

        def rank(found: Checkpoint) -> tuple[float, str]:
            return (-math.inf if math.isnan(found.best_score) else found.best_score, found.version)

        return max(self.checkpoints.values(), key=rank)

    @property
    def title(self) -> str:
        return f"{self.chosen.name} {self.chosen.version}"


class _NoChallengerError(ValueError):
    """No network of the leaderboard is registered in MLflow."""


def exclusive_promotion(settings: Settings) -> AbstractContextManager[None]:
    """Return a context that one process of this machine enters at a time; the others wait.

    A promotion reads alias and table, and changes both: it must hold the lock from `challenge` until
    ``champion.parquet`` has been written.
    """
    return locked(settings.local_home / "champion.lock", waits=True)


def challenge(
    settings: Settings, leaderboard: pd.DataFrame, *, max_ece: float, num_bootstraps: int, seed: int
) -> Outcome:
    """Compare the best network of the leaderboard with the champion, and promote it if the rule is met.

    Hold `exclusive_promotion` until the predictions of the result are in ``champion.parquet``.

    Args:
        settings: The installation.
        leaderboard: See ``core.evaluation.leaderboard``.
        max_ece: Largest expected calibration error for a promotion, above the error that chance explains.
        num_bootstraps: Bootstrap draws of scans.
        seed: Seed of the draws.

    Raises:
        ValueError: If the leaderboard is of other classifiers than the current ones, one of them has seen its test
            fold, or MLflow's champion differs from that of ``champion.parquet``.
        CheckpointError: If a checkpoint is damaged.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    pooled = pooled_predictions(settings, CLASSIFIER)
    check_of_these_folds(leaderboard, pooled.folds, "leaderboard")
    try:
        challenger = _challenger(settings, leaderboard, pooled)
        version = _registered_version(settings, challenger)
    except _NoChallengerError as error:
        return _not_promoted("No network", unregistered(str(error), max_ece=max_ece), _kept_champion(settings, pooled))
    champion = _champion(settings, pooled, version)
    is_zero = pooled.predictions["model"] == ZERO_RULE
    labels, calibrated = (challenger.predictions[name].to_numpy() for name in ("class", "calibrated"))
    promotion = evaluate_promotion(
        challenger.predictions,
        pooled.predictions[is_zero] if champion.empty else champion,
        reference=reference_of(settings, pooled.folds.folds),
        calibration=CalibrationError.of(labels, calibrated),
        leaks=_leaks(settings, challenger),
        max_ece=max_ece,
        num_bootstraps=num_bootstraps,
        seed=seed,
    )
    promotion = replace(promotion, conditions=(*promotion.conditions, all_candidates(pooled.sample)))
    outcome = Outcome(promotion=promotion, is_fine=True, text="", predictions=champion)
    if outcome.champion == challenger.title and not promotion.is_error:
        return replace(outcome, text=f"{challenger.title} is the champion already.")
    if promotion.is_granted:
        # Last, because it takes seconds.
        promotion = replace(promotion, conditions=(*promotion.conditions, export_condition(challenger.chosen)))
        outcome = replace(outcome, promotion=promotion)
    if not promotion.is_granted:
        return _not_promoted(challenger.title, promotion, champion)
    tags = {"promoted_over": outcome.champion, "promotion": promotion.findings}
    promote(settings.mlflow_tracking_uri, CLASSIFIER, version, tags=tags)
    text = f"{challenger.title}, registered version {version}, becomes the champion over {outcome.champion}."
    return replace(outcome, text=text, predictions=_champion_rows(challenger, version))


def _not_promoted(title: str, promotion: Promotion, champion: pd.DataFrame) -> Outcome:
    outcome = Outcome(promotion=promotion, is_fine=False, text="", predictions=champion)
    text = f"{title} is not promoted: {promotion.reasons} Champion as before: {outcome.champion}."
    return replace(outcome, text=text)


def _champion_rows(challenger: _Challenger, version: str) -> pd.DataFrame:
    """Return the table of the champion as it is after a promotion of the challenger."""
    rows = challenger.predictions.assign(champion=challenger.title, registered_version=version)
    return rows[COLUMNS].reset_index(drop=True)


def _registered_version(settings: Settings, challenger: _Challenger) -> str:
    run_id = str(challenger.chosen.mlflow_run_id)
    version = registered_version_of(settings.mlflow_tracking_uri, CLASSIFIER, run_id)
    if version is None:
        msg = f"A champion must be registered in MLflow, got no version of the run {run_id} ({challenger.title})."
        raise _NoChallengerError(f"{msg} Train it again, or point MLFLOW_TRACKING_URI at its registry.")
    return version


def _champion(settings: Settings, pooled: PooledPredictions, challenger_version: str) -> pd.DataFrame:
    """Return the champion's predictions, no row without one; MLflow's alias must agree with the table."""
    rows = _kept_champion(settings, pooled)
    kept = None if rows.empty else str(rows["registered_version"].iloc[0])
    holder = champion_of(settings.mlflow_tracking_uri, CLASSIFIER)
    # The challenger has the alias already if a promotion was killed before it wrote the table.
    if holder not in {kept, challenger_version}:
        msg = f"The champion must be the version with MLflow's alias `champion`, got version {holder} there and {kept}"
        msg += f" in champion.parquet (registered model {CLASSIFIER})."
        raise ValueError(f"{msg} Restore the alias, or remove alias and table to start without a champion.")
    return rows


def _kept_champion(settings: Settings, pooled: PooledPredictions) -> pd.DataFrame:
    """Return the table of the champion; no row without one."""
    if exists(settings.tables_dir / "champion.parquet"):
        return read_table(settings, "champion")
    return pooled.predictions.iloc[:0].assign(champion="", registered_version="")[COLUMNS]


def _challenger(settings: Settings, leaderboard: pd.DataFrame, pooled: PooledPredictions) -> _Challenger:
    """Return the best nodule classifier of the leaderboard whose folds were all trained with MLflow."""
    store = checkpoint_store(settings)
    is_own = leaderboard["model"].str.partition(" ")[0] == CLASSIFIER
    for model in leaderboard.loc[is_own & (leaderboard["mlflow_runs"] != ""), "model"]:
        rows = pooled.models[pooled.models["model"] == model]
        places = {int(row.fold): store.path(CLASSIFIER, str(row.version)) for row in rows.itertuples()}
        checkpoints = {fold: load_checkpoint(path) for fold, path in places.items()}
        if checkpoints and all(checkpoint.mlflow_run_id for checkpoint in checkpoints.values()):
            predictions = pooled.predictions[pooled.predictions["model"] == model]
            return _Challenger(model=model, predictions=predictions, checkpoints=checkpoints)
    msg = f"A champion must be a {CLASSIFIER} that was trained with MLflow, got {', '.join(leaderboard['model'])}."
    raise _NoChallengerError(f"{msg} Train `{CLASSIFIER}` and evaluate it.")


def _leaks(settings: Settings, challenger: _Challenger) -> list[str]:
    rows, folds, same_scans = challenger.predictions, read_table(settings, "folds"), read_same_scans(settings)
    reports = [
        leaks_of_checkpoint(checkpoint, rows[rows["fold"] == fold], folds, same_scans)
        for fold, checkpoint in challenger.checkpoints.items()
    ]
    return [str(report) for report in reports if not report.is_clean]
