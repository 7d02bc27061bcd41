"""Promotion to champion: each condition separately."""

import math

import pandas as pd
import pytest

from luna_pipeline.core.evaluation.calibration import CalibrationError
from luna_pipeline.core.evaluation.promotion import evaluate_promotion, shared_series
from luna_pipeline_tests.core.evaluation.test_leaderboard import REFERENCE, predictions_of


def of_fold(share_right: float, *, fold: int = 0) -> pd.DataFrame:
    return predictions_of("any", share_right=share_right).assign(fold=fold)


def error_of(ece: float, by_chance: float = 0.0) -> CalibrationError:
    return CalibrationError(ece=ece, by_chance=by_chance)


def judged(challenger, rival, **changes):
    facts = {"calibration": error_of(0.02), "leaks": [], "max_ece": 0.05, "num_bootstraps": 100, "seed": 0}
    return evaluate_promotion(challenger, rival, reference=REFERENCE, **{**facts, **changes})


def is_met(promotion) -> dict[str, bool]:
    return {condition.name: condition.is_met for condition in promotion.conditions}


def test_better_calibrated_and_without_a_leak_becomes_champion():
    promotion = judged(of_fold(0.9), of_fold(0.1))
    assert is_met(promotion) == {"no_leak": True, "calibrated": True, "better": True}
    assert promotion.is_granted
    assert not promotion.is_error
    assert "on 20 scans of which both have scored the same candidates" in promotion.findings


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
        ({"calibration": error_of(0.06)}, "calibrated", "at most 0.05 above that of chance, and it is 0.0600"),
        ({"calibration": error_of(0.1, 0.04)}, "calibrated", "of which chance explains 0.0400"),
        ({"calibration": error_of(math.nan)}, "calibrated", "and there is no calibration"),
    ],
)
def test_only_a_leak_is_an_error(change, condition, words):
    promotion = judged(of_fold(0.9), of_fold(0.1), **change)
    assert [name for name, met in is_met(promotion).items() if not met] == [condition]
    assert promotion.is_error == (condition == "no_leak")
    assert words in promotion.findings
    assert words.removeprefix("not met. ") in promotion.reasons


def test_an_error_that_chance_explains_is_calibrated():
    assert is_met(judged(of_fold(0.9), of_fold(0.1), calibration=error_of(0.1, 0.05)))["calibrated"]


def test_the_limit_of_calibration_belongs_to_it():
    assert is_met(judged(of_fold(0.9), of_fold(0.1), calibration=error_of(0.05)))["calibrated"]


def test_only_scans_with_the_same_candidates_are_compared_whatever_their_fold():
    one, other = of_fold(0.9), of_fold(0.1, fold=3)
    lacking = other[(other["series_instance_uid"] != "S00") | (other["x_mm"] != 0)]
    assert shared_series(one, lacking[lacking["series_instance_uid"] != "S19"]) == [f"S{n:02d}" for n in range(1, 19)]
    assert "on 19 scans of which" in judged(one, lacking).findings
    assert is_met(judged(one, lacking))["better"]


def test_who_finds_nothing_because_of_ties_is_beaten_all_the_same():
    # As for the zero rule on LUNA16: more than 100 candidates of a scan have one score, and all are removed.
    ties = pd.concat([of_fold(0.9).assign(probability=0.4)] * 30, ignore_index=True)
    many = ties.assign(candidate_id=range(len(ties)))
    first = many.groupby("series_instance_uid").head(1).index
    perfect = many.assign(probability=0.1)
    perfect.loc[first, "probability"] = 0.9
    perfect["probability"] += perfect["candidate_id"] * 1e-6
    promotion = judged(perfect, many)
    assert is_met(promotion)["better"], promotion.findings
    assert not is_met(judged(many, perfect))["better"]


def test_without_a_common_scan_or_annotations_nobody_is_better():
    apart = judged(of_fold(0.9), of_fold(0.1).iloc[1:0])
    assert "There is no scan whose candidates both have scored. Remove champion.parquet" in apart.findings
    blind = evaluate_promotion(
        of_fold(0.9),
        of_fold(0.1),
        reference=None,
        calibration=error_of(0.0),
        leaks=[],
        max_ece=0.05,
        num_bootstraps=10,
        seed=0,
    )
    assert "There are no annotations" in blind.findings
    assert not apart.is_granted
    assert not blind.is_granted


def test_the_rule_is_said():
    assert "of at most 0.05 more than chance gives" in judged(of_fold(0.9), of_fold(0.1)).rule
