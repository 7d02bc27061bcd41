"""Ranks, figures and comparisons of the leaderboard."""

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.evaluation.froc_table import FROC_COLUMNS, evaluate_models, froc_table
from luna_pipeline.core.evaluation.leaderboard import LEADERBOARD_COLUMNS, leaderboard
from luna_pipeline.core.evaluation.reference import Reference
from luna_pipeline_tests.core.evaluation.froc_cases import rows

SCANS = [f"S{place:02d}" for place in range(20)]
FOLDS = "folds 0, 1 of 5"
REFERENCE = Reference(
    nodules=rows([(scan, 0, 0, 0, 10) for scan in SCANS], "diameter_mm"),
    excluded=rows([], "diameter_mm"),
    scans=SCANS,
    notes=(),
)


def predictions_of(model: str, *, share_right: float) -> pd.DataFrame:
    """Return a candidate in each nodule and three elsewhere; a share of the nodules has the highest scores."""
    generator = np.random.default_rng(1)
    points = [(scan, 0 if place == 0 else 90 + place, 0, 0, 0.0) for scan in SCANS for place in range(4)]
    table = rows(points, "probability")
    is_nodule = (table["x_mm"] == 0).to_numpy()
    is_right = np.zeros(len(table), dtype=bool)
    is_right[np.flatnonzero(is_nodule)[: round(share_right * len(SCANS))]] = True
    table["probability"] = np.where(is_right, 0.9, 0.5 * generator.random(len(table)))
    return table.assign(candidate_id=np.arange(len(table)), model=model, **{"class": is_nodule.astype(int)})


def facts(model: str, **values) -> dict:
    return {
        "model": model,
        "version": "0.0.1-fold0",
        "num_parameters": 10,
        "training_seconds": 5.0,
        "scoring_seconds": 2.0,
        "num_candidates": 80,
        "mlflow_run_id": "r0",
        "is_origin_known": True,
        **values,
    }


@pytest.fixture(scope="module")
def parts():
    shares = {"poor": 0.0, "good": 0.9, "fair": 0.85}
    predictions = pd.concat([predictions_of(model, share_right=share) for model, share in shares.items()])
    results = evaluate_models(predictions, REFERENCE, num_bootstraps=200, seed=0)
    report = pd.DataFrame({"model": list(shares), "auc": [0.5, 0.9, 0.8], "auc_lower": 0.1, "auc_upper": 1.0})
    other = {"version": "0.0.1-fold1", "training_seconds": 7.0, "mlflow_run_id": "r1", "scoring_seconds": 6.0}
    models = pd.DataFrame([facts("good"), facts("good", **other), facts("fair"), facts("poor", mlflow_run_id=None)])
    return results, (froc_table(results, folds=FOLDS), report, models)


def test_the_best_stands_first_and_the_order_of_rows_decides_nothing(parts):
    _, tables = parts
    board = leaderboard(*tables, folds=FOLDS)
    assert tuple(board.columns) == LEADERBOARD_COLUMNS
    assert list(board["model"]) == ["good", "fair", "poor"]
    assert list(board["rank"]) == [1, 2, 3]
    assert set(board["folds"]) == {FOLDS}
    again = leaderboard(*(table.iloc[::-1] for table in tables), folds=FOLDS)
    unordered = ["versions", "mlflow_runs"]
    pd.testing.assert_frame_equal(board.drop(columns=unordered), again.drop(columns=unordered))


def test_figures_are_those_of_the_evaluation(parts):
    results, tables = parts
    best = leaderboard(*tables, folds=FOLDS).iloc[0]
    # 18 of 20 nodules have the highest scores; the others lie somewhere among 60 candidates.
    assert best["cpm"] == results["good"].curve.cpm
    assert best["cpm"] >= 0.9
    assert (best["cpm_lower"], best["cpm_upper"]) == results["good"].band.cpm_interval
    assert best["sensitivity_at_1_fp"] == results["good"].curve.sens_at_points[3]
    assert (best["auc"], best["auc_lower"], best["auc_upper"]) == (0.9, 0.1, 1.0)


def test_the_table_of_scores_has_counts_bounds_and_draws(parts):
    results, (froc, _, _) = parts
    assert tuple(froc.columns) == FROC_COLUMNS
    row, band = froc.set_index("model").loc["good"], results["good"].band
    assert (row["num_scans"], row["num_nodules"], row["num_found"], row["num_false_positives"]) == (20, 20, 20, 60)
    assert row["sensitivity_at_0.125_lower"] == band.at_points(band.lower)[0]
    assert row["sensitivity_at_8_upper"] == band.at_points(band.upper)[6]
    assert row["cpm_draws"] == band.cpm.tolist()


def test_without_draws_there_are_no_bounds():
    results = evaluate_models(predictions_of("one", share_right=0.5), REFERENCE, num_bootstraps=0, seed=0)
    row = froc_table(results, folds=FOLDS).iloc[0]
    assert np.isnan([row["cpm_lower"], row["sensitivity_at_1_upper"]]).all()
    assert row["cpm_draws"] == []


def test_facts_are_summed_over_folds(parts):
    board = leaderboard(*parts[1], folds=FOLDS).set_index("model")
    good = board.loc["good"]
    assert (good["num_parameters"], good["training_seconds"], good["candidates_per_second"]) == (10, 12.0, 160 / 8)
    assert (good["versions"], good["mlflow_runs"]) == ("0.0.1-fold0, 0.0.1-fold1", "r0, r1")
    assert board.loc["poor", "mlflow_runs"] == ""
    assert board["is_origin_known"].all()


def test_a_row_says_where_nobody_knows_what_the_weights_have_seen(parts):
    _, (froc, report, models) = parts
    models = models.assign(is_origin_known=models["version"] != "0.0.1-fold1")
    board = leaderboard(froc, report, models, folds=FOLDS).set_index("model")
    assert board["is_origin_known"].to_dict() == {"good": False, "fair": True, "poor": True}


def test_a_row_has_the_note_of_its_model(parts):
    froc, *others = parts[1]
    board = leaderboard(froc.assign(notes="old"), *others, folds=FOLDS, notes={"fair": "a note"}).set_index("model")
    assert board["notes"].to_dict() == {"good": "", "fair": "a note", "poor": ""}


def test_who_finds_nothing_at_all_is_worse_than_who_finds_something(parts):
    _, (froc, report, models) = parts
    nothing = froc.set_index("model")
    nothing.loc["poor", "cpm"] = np.nan
    nothing.at["poor", "cpm_draws"] = [0.0] * 200
    board = leaderboard(nothing.reset_index(), report, models, folds=FOLDS).set_index("model")
    assert board.loc["fair", "better_than_next"] is True
    assert board.loc["fair", "cpm_gain"] == pytest.approx(board.loc["fair", "cpm"])


def test_better_than_the_next_is_said_only_where_other_scans_would_not_change_it(parts):
    board = leaderboard(*parts[1], folds=FOLDS).set_index("model")
    assert board.loc["fair", "better_than_next"] is True
    assert board.loc["good", "better_than_next"] is False
    assert board.loc["poor", "better_than_next"] is None
    gain = board.loc["good", "cpm_gain"]
    assert gain == pytest.approx(board.loc["good", "cpm"] - board.loc["fair", "cpm"])
    assert board.loc["good", "cpm_gain_lower"] <= gain <= board.loc["good", "cpm_gain_upper"]


def test_without_annotations_models_stand_by_their_auc(parts):
    _, (froc, report, models) = parts
    board = leaderboard(froc.iloc[:0], report, models, folds=FOLDS)
    assert list(board["model"]) == ["good", "fair", "poor"]
    assert board["cpm"].isna().all()
    assert list(board["better_than_next"]) == [None] * 3


def test_models_with_other_candidates_are_refused():
    one, other = predictions_of("one", share_right=0.5), predictions_of("other", share_right=0.5)
    with pytest.raises(ValueError, match="the same candidates, got 79 of other and 80 of one"):
        evaluate_models(pd.concat([one, other.iloc[1:]]), REFERENCE, num_bootstraps=0, seed=0)
