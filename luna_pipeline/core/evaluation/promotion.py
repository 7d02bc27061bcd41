"""The rule by which a model becomes the champion: better on the same folds, calibrated, and without a leak."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from luna_pipeline.core.evaluation.comparison import paired_difference
from luna_pipeline.core.evaluation.froc_table import evaluate_models
from luna_pipeline.core.evaluation.reference import Reference

RULE = (
    "A model becomes the champion where, on the folds that both have scored on the same candidates, its CPM is higher "
    "than the champion's (without one: than the zero rule's) with a 95 % interval of the paired difference over draws "
    "of scans above 0; where its scores, calibrated on validation alone, have an expected calibration error of at most "
    "{max_ece:g} on the test folds; and where it has seen nothing of what it was tested on."
)
CHALLENGER, RIVAL = "challenger", "rival"

ReferenceOf = Callable[[Collection[int]], Reference | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One part of the rule and what came of it.

    Attributes:
        name: ``better``, ``calibrated`` or ``no_leak``.
        is_met: Whether it holds.
        is_blocking: Whether what does not hold is an error, and not just a model that is not good enough.
        finding: What was found, in words.
    """

    name: str
    is_met: bool
    is_blocking: bool
    finding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """Whether a challenger becomes the champion."""

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
    def findings(self) -> str:
        """A line a condition."""
        words = {True: "met", False: "not met"}
        return "\n".join(f"{part.name}: {words[part.is_met]}. {part.finding}" for part in self.conditions)


def judge(
    challenger: pd.DataFrame,
    rival: pd.DataFrame,
    *,
    reference_of: ReferenceOf,
    ece_calibrated: float,
    leaks: Sequence[str],
    max_ece: float,
    num_bootstraps: int,
    seed: int,
) -> Promotion:
    """Judge whether a model becomes the champion.

    Args:
        challenger: Its predictions, a row a candidate: ``candidate_id``, ``series_instance_uid``, ``x_mm``, ``y_mm``,
            ``z_mm``, ``fold``, ``probability``.
        rival: The champion's predictions when it became champion; the zero rule's where there is none.
        reference_of: Returns what predictions of these folds are held against; None without annotations.
        ece_calibrated: Expected calibration error on the test folds after calibration on validation; nan without one.
        leaks: What the challenger has seen of its test folds, a line each.
        max_ece: The largest error of calibration that is borne.
        num_bootstraps: Draws of scans.
        seed: Of the draws.
    """
    better = _better(challenger, rival, reference_of, num_bootstraps=num_bootstraps, seed=seed)
    is_calibrated = not math.isnan(ece_calibrated) and ece_calibrated <= max_ece
    error = "there is no calibration" if math.isnan(ece_calibrated) else f"the error is {ece_calibrated:.4f}"
    return Promotion(
        rule=RULE.format(max_ece=max_ece),
        conditions=(
            Condition(name="no_leak", is_met=not leaks, is_blocking=True, finding=" ".join(leaks) or "Nothing seen."),
            Condition(
                name="calibrated", is_met=is_calibrated, is_blocking=True,
                finding=f"Expected calibration error must be at most {max_ece:g}, and {error}.",
            ),
            better,
        ),
    )  # fmt: skip


def shared_folds(one: pd.DataFrame, other: pd.DataFrame) -> list[int]:
    """Return the folds of which both have scored the same candidates, rising."""
    ids = [
        {int(str(fold)): np.sort(rows["candidate_id"].to_numpy()) for fold, rows in part.groupby("fold")}
        for part in (one, other)
    ]
    return [fold for fold in sorted(set(ids[0]) & set(ids[1])) if np.array_equal(ids[0][fold], ids[1][fold])]


def _better(
    challenger: pd.DataFrame, rival: pd.DataFrame, reference_of: ReferenceOf, *, num_bootstraps: int, seed: int
) -> Condition:
    folds = shared_folds(challenger, rival)
    reference = reference_of(folds) if folds else None
    if reference is None:
        lacking = "annotations" if folds else "fold that both have scored on the same candidates"
        return Condition(name="better", is_met=False, is_blocking=False, finding=f"There is no {lacking}.")
    both = [
        part[part["fold"].isin(folds)].assign(model=name) for name, part in ((CHALLENGER, challenger), (RIVAL, rival))
    ]
    results = evaluate_models(pd.concat(both), reference, num_bootstraps=num_bootstraps, seed=seed)
    gain = paired_difference(results[CHALLENGER], results[RIVAL])
    where = f"folds {', '.join(map(str, folds))}"
    return Condition(
        name="better",
        is_met=gain.is_better,
        is_blocking=False,
        finding=f"CPM {gain} on {where}, {len(reference.scans)} scans.",
    )
