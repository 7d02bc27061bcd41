"""The challenge for the champion's place: the only code that moves the alias `champion` of MLflow's registry."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from luna_pipeline.core.evaluation.calibration import calibration_errors
from luna_pipeline.core.evaluation.promotion import Promotion, judge
from luna_pipeline.core.storage.files import exists
from luna_pipeline.core.training.checkpoints import Checkpoint, load_checkpoint
from luna_pipeline.launchers.evaluation.fold_predictions import ZERO_RULE
from luna_pipeline.launchers.evaluation.official_scores import reference_of
from luna_pipeline.launchers.evaluation.pooling import PooledPredictions, check_of_these_folds, pooled_predictions
from luna_pipeline.launchers.installation import checkpoint_store, read_table
from luna_pipeline.launchers.seen_data import leaks_of_checkpoint
from luna_pipeline.settings import Settings
from luna_pipeline.tracking.mlflow_registry import champion_of, promote, registered_version_of

CHAMPION_COLUMNS = {
    "champion": "object",
    "registered_version": "object",
    "candidate_id": "int64",
    "series_instance_uid": "object",
    "x_mm": "float64",
    "y_mm": "float64",
    "z_mm": "float64",
    "fold": "int64",
    "probability": "float64",
}
NO_CHAMPION = "none"
CLASSIFIER = "nodule_classifier"


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What came of a challenge.

    Attributes:
        promotion: The rule and its conditions.
        is_fine: Whether the challenger is the champion now, or was before.
        text: What came of it, in a sentence.
        predictions: The champion's, as it stands now; no row where there is none. ``CHAMPION_COLUMNS``.
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
        """Its version in MLflow's registry."""
        return NO_CHAMPION if self.predictions.empty else str(self.predictions["registered_version"].iloc[0])

    @property
    def folds(self) -> str:
        """The folds that it was scored on."""
        return ", ".join(str(fold) for fold in sorted(self.predictions["fold"].unique()))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Challenger:
    """A network of the leaderboard, a checkpoint a fold."""

    model: str
    predictions: pd.DataFrame
    checkpoints: Mapping[int, Checkpoint]

    @property
    def chosen(self) -> Checkpoint:
        """The fold's classifier with the highest validation score: test scores choose nothing."""
        return max(self.checkpoints.values(), key=lambda found: (_number(found.best_score), found.version))

    @property
    def title(self) -> str:
        return f"{self.chosen.name} {self.chosen.version}"


def challenge(
    settings: Settings, leaderboard: pd.DataFrame, *, max_ece: float, num_bootstraps: int, seed: int
) -> Outcome:
    """Hold the best network of the leaderboard against the champion, and promote it where the rule allows.

    Args:
        settings: Where everything lies.
        leaderboard: See ``core.evaluation.leaderboard``.
        max_ece: The largest error of calibration that is borne.
        num_bootstraps: Draws of scans.
        seed: Of the draws.

    Raises:
        ValueError: If the leaderboard is of other classifiers than those that count, none of them is registered in
            MLflow, or its champion is another one than that of the table.
        TrackerUnavailableError: If MLflow cannot be reached.
    """
    pooled = pooled_predictions(settings, CLASSIFIER)
    check_of_these_folds(leaderboard, pooled.folds, "leaderboard")
    challenger = _challenger(settings, leaderboard, pooled)
    version = _registered_version(settings, challenger)
    champion = _champion(settings, challenger_version=version)
    is_zero = pooled.predictions["model"] == ZERO_RULE
    promotion = judge(
        challenger.predictions,
        pooled.predictions[is_zero] if champion.empty else champion,
        reference=reference_of(settings, pooled.folds.folds),
        ece_calibrated=calibration_errors(
            challenger.predictions["class"].to_numpy(), challenger.predictions["calibrated"].to_numpy()
        )["ece"],
        leaks=_leaks(settings, challenger),
        max_ece=max_ece,
        num_bootstraps=num_bootstraps,
        seed=seed,
    )
    standing = Outcome(promotion=promotion, is_fine=False, text="", predictions=champion)
    if standing.champion == challenger.title and not promotion.is_error:
        return _with(standing, is_fine=True, text=f"{challenger.title} is the champion already.")
    if not promotion.is_granted:
        text = f"{challenger.title} does not become the champion; {standing.champion} stays. {promotion.findings}"
        return _with(standing, is_fine=False, text=text)
    return _promoted(settings, challenger, version, standing)


def _promoted(settings: Settings, challenger: _Challenger, version: str, standing: Outcome) -> Outcome:
    tags = {"promoted_over": standing.champion, "promotion": standing.promotion.findings}
    promote(settings.mlflow_tracking_uri, CLASSIFIER, version, tags=tags)
    rows = challenger.predictions.assign(champion=challenger.title, registered_version=version)
    text = f"{challenger.title}, registered version {version}, becomes the champion over {standing.champion}."
    return Outcome(
        promotion=standing.promotion,
        is_fine=True,
        text=text,
        predictions=rows[list(CHAMPION_COLUMNS)].reset_index(drop=True),
    )


def _with(standing: Outcome, *, is_fine: bool, text: str) -> Outcome:
    return Outcome(promotion=standing.promotion, is_fine=is_fine, text=text, predictions=standing.predictions)


def _registered_version(settings: Settings, challenger: _Challenger) -> str:
    run_id = str(challenger.chosen.mlflow_run_id)
    version = registered_version_of(settings.mlflow_tracking_uri, CLASSIFIER, run_id)
    if version is None:
        msg = f"A champion must be registered in MLflow, got no version of the run {run_id} ({challenger.title})."
        raise ValueError(f"{msg} Train it again, or point MLFLOW_TRACKING_URI at its registry.")
    return version


def _champion(settings: Settings, *, challenger_version: str) -> pd.DataFrame:
    """Return the champion's predictions, which must be those of the version that bears the alias."""
    rows = pd.DataFrame(columns=list(CHAMPION_COLUMNS)).astype(CHAMPION_COLUMNS)
    if exists(settings.tables_dir / "champion.parquet"):
        rows = read_table(settings, "champion")
    kept = None if rows.empty else str(rows["registered_version"].iloc[0])
    holder = champion_of(settings.mlflow_tracking_uri, CLASSIFIER)
    # The challenger itself may bear it: a promotion that was killed before its table was written.
    if holder not in {kept, challenger_version}:
        msg = f"The champion must be the version that bears MLflow's alias, got version {holder} there and {kept} in"
        msg += f" champion.parquet (registered model {CLASSIFIER})."
        raise ValueError(f"{msg} Give the alias back, or remove both to begin anew.")
    return rows


def _challenger(settings: Settings, leaderboard: pd.DataFrame, pooled: PooledPredictions) -> _Challenger:
    """Return the best nodule classifier, a registered version a fold."""
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
    raise ValueError(f"{msg} Train `{CLASSIFIER}` and evaluate it.")


def _leaks(settings: Settings, challenger: _Challenger) -> list[str]:
    rows, folds = challenger.predictions, read_table(settings, "folds")
    reports = [
        leaks_of_checkpoint(checkpoint, rows[rows["fold"] == fold], folds)
        for fold, checkpoint in challenger.checkpoints.items()
    ]
    return [str(report) for report in reports if not report.is_clean]


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value
