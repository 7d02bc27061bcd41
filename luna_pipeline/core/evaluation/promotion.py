"""Rule for promoting a model to champion: better on the same scans, calibrated, and without a leak."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from luna_pipeline.core.evaluation.calibration import CalibrationError
from luna_pipeline.core.evaluation.comparison import paired_difference
from luna_pipeline.core.evaluation.froc_table import evaluate_models
from luna_pipeline.core.evaluation.reference import Reference

RULE = (
    "A model becomes the champion where, on the scans of which both have scored the same candidates, its CPM is higher "
    "than the champion's (without one: than the zero rule's) with a 95 % interval of the paired difference over draws "
    "of scans above 0; where its scores, calibrated on validation alone, have an expected calibration error on the "
    "test folds of at most {max_ece:g} more than chance gives a perfectly calibrated model with as many candidates; "
    "where it has seen nothing of what it was tested on; where all candidates of these scans were scored; and where "
    "its network, exported to ONNX, gives the same probabilities. The default limit, 0.05, is half a bin of the "
    "reliability diagram: a probability is then read from the right bin."
)
CHALLENGER, RIVAL = "challenger", "rival"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of the rule and its result.

    Attributes:
        name: ``better``, ``calibrated``, ``no_leak``, ``all_candidates``, ``exported`` or ``registered``.
        is_met: Whether the condition holds.
        is_blocking: Whether an unmet condition is an error of the data or the model, which fails the run.
        finding: Explanation of the result.
    """

    name: str
    is_met: bool
    is_blocking: bool
    finding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """Result of the rule for a challenger."""

    rule: str
    conditions: tuple[Condition, ...]

    @property
    def is_granted(self) -> bool:
        """Whether all conditions are met."""
        return all(condition.is_met for condition in self.conditions)

    @property
    def is_error(self) -> bool:
        """Whether a blocking condition is not met."""
        return any(condition.is_blocking and not condition.is_met for condition in self.conditions)

    @property
    def reasons(self) -> str:
        """The findings of the unmet conditions, in a line."""
        return " ".join(condition.finding for condition in self.conditions if not condition.is_met)

    @property
    def findings(self) -> str:
        """One line per condition."""
        words = {True: "met", False: "not met"}
        return "\n".join(f"{part.name}: {words[part.is_met]}. {part.finding}" for part in self.conditions)


def evaluate_promotion(
    challenger: pd.DataFrame,
    rival: pd.DataFrame,
    *,
    reference: Reference | None,
    calibration: CalibrationError,
    leaks: Sequence[str],
    max_ece: float,
    num_bootstraps: int,
    seed: int,
) -> Promotion:
    """Evaluate whether a model becomes the champion.

    Args:
        challenger: Predictions of the model, one row per candidate: ``candidate_id``, ``series_instance_uid``,
            ``x_mm``, ``y_mm``, ``z_mm``, ``fold``, ``probability``.
        rival: Predictions of the champion at its promotion; those of the zero rule without a champion.
        reference: Reference of the challenger's folds; None without annotations.
        calibration: Error on the test folds after calibration on validation.
        leaks: Leaks of the challenger, one line each.
        max_ece: Highest accepted calibration error above that.
        num_bootstraps: Number of draws of scans.
        seed: Seed of the draws.
    """
    better = _better(challenger, rival, reference, num_bootstraps=num_bootstraps, seed=seed)
    no_leak = Condition(name="no_leak", is_met=not leaks, is_blocking=True, finding=" ".join(leaks) or "Nothing seen.")
    calibrated = _calibrated(calibration, max_ece)
    return Promotion(rule=RULE.format(max_ece=max_ece), conditions=(no_leak, calibrated, better))


def all_candidates(sample: str) -> Condition:
    """Return the condition that all candidates were scored: neither CPM nor calibration of a sample is that of scans.

    Args:
        sample: How many of the candidates were scored, in words; empty for all of them.
    """
    finding = f"{sample} Cut all candidates, and score them." if sample else "All were scored."
    return Condition(name="all_candidates", is_met=not sample, is_blocking=False, finding=finding)


def unregistered(finding: str, *, max_ece: float) -> Promotion:
    """Return the result without a model that MLflow has registered; ``finding`` says what is missing."""
    condition = Condition(name="registered", is_met=False, is_blocking=False, finding=finding)
    return Promotion(rule=RULE.format(max_ece=max_ece), conditions=(condition,))


def shared_series(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """Return the sorted series of which both tables have the same candidates.

    Folds may differ between the tables: each series was scored by a model that was not trained on it.
    """
    first, second = (
        {str(uid): sorted(rows["candidate_id"]) for uid, rows in part.groupby("series_instance_uid", observed=True)}
        for part in (one, other)
    )
    return [uid for uid in sorted(first) if first[uid] == second.get(uid)]


def _calibrated(error: CalibrationError, max_ece: float) -> Condition:
    """Return the condition that the calibration error is not higher than chance and the limit explain."""
    found = f"it is {error.ece:.4f}, of which chance explains {error.by_chance:.4f} with so many candidates"
    found = "there is no calibration" if math.isnan(error.ece) else found
    finding = f"Calibration error must be at most {max_ece:g} above that of chance, and {found}."
    # False for nan. Rounded, because the difference of two errors may miss the limit by the last bit.
    is_met = round(error.ece - error.by_chance, 12) <= max_ece
    return Condition(name="calibrated", is_met=is_met, is_blocking=False, finding=finding)


def _better(
    challenger: pd.DataFrame, rival: pd.DataFrame, reference: Reference | None, *, num_bootstraps: int, seed: int
) -> Condition:
    series = shared_series(challenger, rival)
    if reference is None or not set(series) & set(reference.scans):
        lacking = "are no annotations" if reference is None else "is no scan whose candidates both have scored"
        finding = f"There {lacking}. Remove champion.parquet and MLflow's alias to start from scratch."
        return Condition(name="better", is_met=False, is_blocking=False, finding=finding)
    both = [
        part[part["series_instance_uid"].isin(series)].assign(model=name)
        for name, part in ((CHALLENGER, challenger), (RIVAL, rival))
    ]
    shared = reference.of_scans(series)
    results = evaluate_models(pd.concat(both), shared, num_bootstraps=num_bootstraps, seed=seed)
    gain = paired_difference(results[CHALLENGER], results[RIVAL])
    where = f"on {len(shared.scans)} scans of which both have scored the same candidates"
    finding = f"The difference of CPM must be above 0 with its interval, and it is {gain} {where}."
    return Condition(name="better", is_met=gain.is_better, is_blocking=False, finding=finding)
