"""Headings, figures and caveats of model cards."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.evaluation.leaks import LeakReport
from luna_pipeline.core.evaluation.model_card import CalibrationErrors, DataPart, Figure, ModelCard
from luna_pipeline.core.metrics.decision import UNDECIDED, Decision

CARD = ModelCard(
    name="nodule_classifier",
    version="0.0.1-fold0",
    registered_version="3",
    purpose="Tells nodules from other candidates in chest CT.",
    is_synthetic=False,
    num_folds=5,
    parts=(
        DataPart(name="training", folds=(2, 3, 4), num_series=534, num_candidates=453_000, num_nodules=910),
        DataPart(name="validation", folds=(1,), num_series=89, num_candidates=75_000, num_nodules=128),
        DataPart(name="test", folds=(0,), num_series=89, num_candidates=79_000, num_nodules=138),
    ),
    evaluated_folds=(0,),
    figures=(Figure("CPM", 0.81249, 0.7, 0.9), Figure("AUC", 0.95, 0.925, math.nan), Figure("F1", math.nan)),
    decision=Decision(
        threshold=0.25,
        threshold_f1=0.5,
        threshold_sensitivity=0.125,
        temperature=1.5,
        platt_slope=0.5,
        platt_intercept=-2.0,
        isotonic_scores=(0.1, 0.4, 0.9),
        isotonic_probabilities=(0.0, 0.01, 0.5),
        num_validation_candidates=75_000,
    ),
    calibration=CalibrationErrors(brier=0.04, ece=0.02, brier_calibrated=0.03, ece_calibrated=0.01),
    config_digest="c" * 64,
    data_fingerprint="d" * 64,
    num_parameters=221_922,
    training_seconds=3725.4,
    mlflow_run_id="e" * 32,
)


def section(card: ModelCard, heading: str) -> str:
    return card.to_markdown().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_headings_come_in_their_order_and_use_is_said_before_all_else():
    lines = CARD.to_markdown().splitlines()
    assert [line.lstrip("# ") for line in lines if line.startswith("#")] == [
        "Model card: nodule_classifier 0.0.1-fold0",
        "Model details",
        "Intended use",
        "Data",
        "Metrics",
        "Evaluation",
        "Caveats",
    ]
    assert lines[2].startswith("**Research use only. Not a medical device")
    assert "Tells nodules from other candidates in chest CT. Research use only." in section(CARD, "Intended use")


def test_a_score_of_sampled_candidates_is_called_so_before_all_else():
    sampled = replace(CARD, sample="Sampled candidates, not comparable: 20 of 40.")
    assert sampled.to_markdown().splitlines()[2].endswith(" **Sampled candidates, not comparable: 20 of 40.**")


def test_details_name_what_the_version_is_made_of():
    details = section(CARD, "Model details")
    for row in (
        "registered version | 3",
        "parameters | 221,922",
        "training | 3,725 s",
        f"MLflow run | {'e' * 32}",
        f"configuration | {'c' * 64}",
        f"training and validation data | {'d' * 64}",
    ):
        assert f"| {row} |" in details


def test_what_is_not_known_of_a_version_says_so():
    details = section(
        replace(
            CARD,
            registered_version=None,
            mlflow_run_id=None,
            training_seconds=math.nan,
            notes="Weights of another house.",
        ),
        "Model details",
    )
    for row in ("registered version | none", "MLflow run | none", "training | not measured"):
        assert f"| {row} |" in details
    assert details.endswith("\n\nWeights of another house.\n")


def test_data_are_counted_by_part_with_their_folds():
    data = section(CARD, "Data")
    assert "| training | folds 2, 3, 4 of 5 | 534 | 453,000 | 910 |" in data
    assert "| validation | fold 1 of 5 | 89 | 75,000 | 128 |" in data
    without = DataPart(name="validation", folds=(), num_series=0, num_candidates=0, num_nodules=0)
    assert "| validation | no fold | 0 | 0 | 0 |" in section(replace(CARD, parts=[without]), "Data")


def test_data_say_what_came_of_looking_for_leaks():
    found = LeakReport(lines=(), num_unknown_patients=1, num_series=4)
    assert "Leaks into the test part: not looked for." in section(CARD, "Data")
    assert f"Leaks into the test part: {found}" in section(replace(CARD, leaks=str(found)), "Data")


def test_figures_have_their_intervals_and_undefined_ones_say_so():
    evaluation = section(CARD, "Evaluation")
    assert "Figures of fold 0 of 5." in evaluation
    assert "| CPM | 0.812 | 0.700 to 0.900 |" in evaluation
    assert "| AUC | 0.950 | undefined |" in evaluation
    assert "| F1 | undefined | undefined |" in evaluation


def test_thresholds_say_how_they_were_chosen():
    metrics = section(CARD, "Metrics")
    assert "chosen on 75,000 validation candidates" in metrics
    assert "| sensitivity + specificity highest (Youden) | 0.250 |" in metrics
    assert "| F1 highest | 0.500 |" in metrics
    assert "| sensitivity at least 0.95 | 0.125 |" in metrics
    assert "not chosen: without validation" in section(replace(CARD, decision=UNDECIDED), "Metrics")


def test_calibration_is_said_before_and_after_or_that_there_is_none():
    assert (
        "Calibration: isotonic regression of 3 knots, fitted on the validation part. "
        "Before: Brier score 0.040, ECE 0.020. After: Brier score 0.030, ECE 0.010."
    ) in section(CARD, "Metrics")
    for method, words in (("temperature", "scaling by 1.500,"), ("platt", "slope 0.500 and intercept -2.000 of")):
        assert words in section(replace(CARD, decision=replace(CARD.decision, method=method)), "Metrics")
    uncalibrated = replace(CARD, decision=Decision.at(0.3), calibration=CalibrationErrors(brier=0.04))
    assert "Scores are uncalibrated: Brier score 0.040, ECE undefined." in section(uncalibrated, "Metrics")


def test_subgroups_are_a_table_whose_names_may_hold_anything():
    rows = pd.DataFrame(
        {"kind": ["texture", "diameter"], "group": ["a|b", None], "num_nodules": [1200, 0], "auc": [0.5, np.nan]}
    )
    evaluation = section(replace(CARD, subgroups=rows.to_dict("records")), "Evaluation")
    assert "| kind | group | num_nodules | auc |\n| --- | --- | --- | --- |" in evaluation
    assert "| texture | a\\|b | 1,200 | 0.500 |" in evaluation
    assert "| diameter | unknown | 0 | undefined |" in evaluation


def test_limits_are_named_and_synthetic_data_is_called_synthetic():
    real, synthetic = CARD.to_markdown(), replace(CARD, is_synthetic=True).to_markdown()
    for words in ("not pathology", "One data set", "Not a medical device"):
        assert words in section(CARD, "Caveats")
    assert "ynthetic" not in real
    assert "**Synthetic data: the figures say nothing about patients.**" in synthetic.splitlines()[2]
    assert "Synthetic chest CTs" in section(replace(CARD, is_synthetic=True), "Data")
    assert "nothing follows for patients" in section(replace(CARD, is_synthetic=True), "Caveats")


def test_fewer_than_all_folds_are_no_whole_cross_validation():
    assert "Figures of fold 0 of 5 only: not those of a whole cross-validation." in section(CARD, "Caveats")
    assert "cross-validation" not in replace(CARD, evaluated_folds=(0, 1, 2, 3, 4)).to_markdown()


@pytest.mark.parametrize("value", [math.nan, np.float64("nan")])
def test_no_card_ever_says_nan(value):
    card = replace(
        CARD,
        figures=[Figure("CPM", value)],
        calibration=CalibrationErrors(),
        training_seconds=value,
        subgroups=[{"group": "x", "auc": value}],
    )
    assert "nan" not in card.to_markdown()
