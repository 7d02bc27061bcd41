"""Who becomes champion: each condition by itself."""

import math

import pandas as pd
import pytest

from luna_pipeline.core.evaluation.promotion import judge, shared_folds
from luna_pipeline_tests.core.evaluation.test_leaderboard import REFERENCE, predictions_of


def of_fold(share_right: float, *, fold: int = 0) -> pd.DataFrame:
    return predictions_of("any", share_right=share_right).assign(fold=fold)


def judged(challenger, rival, **changes):
    facts = {"ece_calibrated": 0.02, "leaks": [], "max_ece": 0.05, "num_bootstraps": 100, "seed": 0}
    return judge(challenger, rival, reference_of=lambda _folds: REFERENCE, **{**facts, **changes})


def is_met(promotion) -> dict[str, bool]:
    return {condition.name: condition.is_met for condition in promotion.conditions}


def test_better_calibrated_and_without_a_leak_becomes_champion():
    promotion = judged(of_fold(0.9), of_fold(0.1))
    assert is_met(promotion) == {"no_leak": True, "calibrated": True, "better": True}
    assert promotion.is_granted
    assert not promotion.is_error
    assert "on folds 0, 20 scans" in promotion.findings


@pytest.mark.parametrize("rival", [0.9, 0.88, 1.0])
def test_not_better_is_no_error_and_no_promotion(rival):
    promotion = judged(of_fold(0.9), of_fold(rival))
    assert is_met(promotion) == {"no_leak": True, "calibrated": True, "better": False}
    assert not promotion.is_granted
    assert not promotion.is_error


@pytest.mark.parametrize(
    ("change", "condition", "words"),
    [
        ({"leaks": ["Patient 12 is in training."]}, "no_leak", "not met. Patient 12 is in training."),
        ({"ece_calibrated": 0.06}, "calibrated", "at most 0.05, and the error is 0.0600"),
        ({"ece_calibrated": math.nan}, "calibrated", "and there is no calibration"),
    ],
)
def test_a_leak_or_no_calibration_is_an_error(change, condition, words):
    promotion = judged(of_fold(0.9), of_fold(0.1), **change)
    assert [name for name, met in is_met(promotion).items() if not met] == [condition]
    assert promotion.is_error
    assert words in promotion.findings


def test_the_limit_of_calibration_belongs_to_it():
    assert is_met(judged(of_fold(0.9), of_fold(0.1), ece_calibrated=0.05))["calibrated"]


def test_only_folds_with_the_same_candidates_are_compared():
    one = pd.concat([of_fold(0.9), of_fold(0.9, fold=1), of_fold(0.9, fold=2)])
    other = pd.concat([of_fold(0.9, fold=2), of_fold(0.9, fold=1).iloc[1:], of_fold(0.9, fold=3)])
    assert shared_folds(one, other) == [2]


def test_without_a_common_fold_or_annotations_nobody_is_better():
    apart = judged(of_fold(0.9), of_fold(0.1, fold=1))
    assert "There is no fold that both have scored" in apart.findings
    blind = judge(
        of_fold(0.9), of_fold(0.1), reference_of=lambda _folds: None, ece_calibrated=0.0, leaks=[], max_ece=0.05,
        num_bootstraps=10, seed=0,
    )  # fmt: skip
    assert "There is no annotations" in blind.findings
    assert not apart.is_granted
    assert not blind.is_granted


def test_the_rule_is_said():
    assert "at most 0.05 on the test folds" in judged(of_fold(0.9), of_fold(0.1)).rule
