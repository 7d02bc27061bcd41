"""Binary report compared with results by hand and scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, precision_score, roc_auc_score

from luna_pipeline.core.evaluation.report import REPORT_COLUMNS, binary_report, called
from luna_pipeline.core.evaluation.resampling import patient_groups


def predictions(rows: list[tuple[str, int, int, float]], **columns) -> pd.DataFrame:
    """Return predictions from rows (model, candidate, class, probability); candidates 1-3 are in series A."""
    table = pd.DataFrame(
        {
            "candidate_id": [candidate for _, candidate, _, _ in rows],
            "series_instance_uid": ["A" if candidate <= 3 else "B" for _, candidate, _, _ in rows],
            "x_mm": 0.0,
            "y_mm": 0.0,
            "z_mm": 0.0,
            "class": [label for _, _, label, _ in rows],
            "fold": 0,
            "model": [model for model, _, _, _ in rows],
            "probability": [score for _, _, _, score in rows],
        }
    )
    decisions = {"threshold": 0.5, "threshold_f1": 0.35, "threshold_sensitivity": 0.2, "calibrated": math.nan}
    return table.assign(**{**decisions, **columns})


def report_of(rows: list[tuple[str, int, int, float]], *, num_bootstraps: int = 0, **columns) -> pd.DataFrame:
    return binary_report(predictions(rows, **columns), num_bootstraps=num_bootstraps)


# Five candidates. Of the 2 x 3 pairs of nodule and other, 5 are in the right order: only (0.4, 0.6) is not.
FIVE = [("net", 1, 1, 0.9), ("net", 2, 0, 0.6), ("net", 3, 1, 0.4), ("net", 4, 0, 0.3), ("net", 5, 0, 0.1)]


def test_report_agrees_with_paper_arithmetic():
    row = report_of(FIVE).iloc[0].to_dict()

    assert row["auc"] == pytest.approx(5 / 6)
    # Precision is 1/1 at the first nodule and 2/3 at the second.
    assert row["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert row["sensitivity_at_specificity_95"] == 1 / 2
    assert (row["sensitivity"], row["specificity"]) == (pytest.approx(1 / 2), pytest.approx(2 / 3))
    assert (row["precision"], row["f1"]) == (pytest.approx(1 / 2), pytest.approx(1 / 2))
    counts = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    assert [row[name] for name in counts] == [1, 1, 2, 1]
    assert [row[name] for name in ("num_candidates", "num_nodules", "num_series", "num_folds")] == [5, 2, 2, 1]


def test_each_threshold_has_its_own_sensitivity_and_specificity():
    row = report_of(FIVE).iloc[0]
    at = [
        (row[f"sensitivity_at_{name}"], row[f"specificity_at_{name}"])
        for name in ("threshold_f1", "threshold_sensitivity")
    ]
    assert at == [(1.0, pytest.approx(2 / 3)), (1.0, pytest.approx(1 / 3))]


def test_a_score_equal_to_the_threshold_is_a_nodule():
    row = report_of(FIVE, threshold=0.4).iloc[0]
    assert (row["true_positives"], row["false_negatives"], row["sensitivity"]) == (2, 0, 1.0)


@pytest.mark.seed_defect(49)
def test_each_fold_is_judged_by_the_threshold_of_its_own_model():
    columns = {"threshold": [0.95, 0.95, 0.95, 0.2, 0.2], "fold": [3, 3, 3, 7, 7]}
    assert called(predictions(FIVE, **columns)).tolist() == [False, False, False, True, False]
    row = report_of(FIVE, **columns).iloc[0]
    assert math.isnan(row["threshold"])
    assert (row["num_folds"], row["true_positives"], row["false_positives"]) == (2, 0, 1)
    assert report_of(FIVE, threshold=0.3).iloc[0]["threshold"] == 0.3


def test_one_row_a_model_in_order_each_with_its_own_threshold():
    zero = [("zero rule", candidate, label, 0.2) for _, candidate, label, _ in FIVE]
    report = report_of(FIVE + zero, threshold=[0.5] * 5 + [0.2] * 5)

    assert tuple(report.columns) == REPORT_COLUMNS
    assert list(report["model"]) == ["net", "zero rule"]
    assert list(report["threshold"]) == [0.5, 0.2]
    assert list(report["auc"]) == pytest.approx([5 / 6, 0.5])
    assert list(report["false_positives"]) == [1, 3]


def test_errors_of_calibration_are_given_before_and_after():
    calibrated = [1.0, 0.0, 1.0, 0.0, 0.0]
    row = report_of(FIVE, calibrated=calibrated).iloc[0]
    assert row["brier"] == pytest.approx((0.1**2 + 0.6**2 + 0.6**2 + 0.3**2 + 0.1**2) / 5)
    # Each score is alone in its bin: its error is its distance from the label.
    assert row["ece"] == pytest.approx((0.1 + 0.6 + 0.6 + 0.3 + 0.1) / 5)
    assert (row["brier_calibrated"], row["ece_calibrated"]) == (0.0, 0.0)


@pytest.mark.parametrize("calibrated", [math.nan, [0.9, 0.6, 0.4, 0.3, math.nan]])
def test_what_is_not_calibrated_throughout_has_no_error_of_calibration(calibrated):
    row = report_of(FIVE, calibrated=calibrated).iloc[0]
    assert math.isnan(row["brier_calibrated"])
    assert math.isnan(row["ece_calibrated"])


def drawn() -> pd.DataFrame:
    """Return a thousand candidates of twenty series, some easier to classify than others."""
    generator = np.random.default_rng(0)
    labels, series = (generator.random(1000) < 0.2).astype(int), np.arange(1000) % 20
    scores = 1 / (1 + np.exp(-generator.normal(size=1000) - labels * series / 10))
    table = predictions([("net", place, labels[place], scores[place]) for place in range(1000)])
    return table.assign(series_instance_uid=[f"series {place}" for place in series])


def test_report_agrees_with_scikit_learn():
    table = drawn()
    labels, scores = table["class"], table["probability"]
    row = binary_report(table, num_bootstraps=0).iloc[0]
    expected = {
        "auc": roc_auc_score(labels, scores),
        "average_precision": average_precision_score(labels, scores),
        "precision": precision_score(labels, scores >= 0.5),
        "f1": f1_score(labels, scores >= 0.5),
        "brier": brier_score_loss(labels, scores),
    }
    assert row[list(expected)].to_dict() == pytest.approx(expected)


def test_intervals_lie_around_the_values_and_are_the_same_for_the_same_seed():
    table = drawn()
    first, again, other = (binary_report(table, num_bootstraps=50, seed=seed) for seed in (1, 1, 2))
    row = first.iloc[0]
    for name in ("auc", "average_precision"):
        assert row[f"{name}_lower"] < row[name] < row[f"{name}_upper"]
    pd.testing.assert_frame_equal(first, again)
    assert first["auc_lower"].item() != other["auc_lower"].item()


def test_without_bootstraps_there_are_no_intervals_and_all_else_is_the_same():
    table, bounds = drawn(), [f"{name}_{end}" for name in ("auc", "average_precision") for end in ("lower", "upper")]
    bare = binary_report(table, num_bootstraps=0)
    assert bare[bounds].isna().all(axis=None)
    pd.testing.assert_frame_equal(
        bare.drop(columns=bounds), binary_report(table, num_bootstraps=5).drop(columns=bounds)
    )


@pytest.mark.seed_defect(41)
@pytest.mark.parametrize(
    ("label", "undefined", "defined"), [(0, "sensitivity", "specificity"), (1, "specificity", "sensitivity")]
)
def test_with_one_class_alone_what_is_undefined_is_nan(label, undefined, defined):
    row = report_of([(model, candidate, label, score) for model, candidate, _, score in FIVE], num_bootstraps=5).iloc[0]

    assert math.isnan(row["auc"])
    assert math.isnan(row["auc_lower"])
    assert math.isnan(row[undefined])
    assert row[defined] == pytest.approx(3 / 5 if label == 0 else 2 / 5)


def test_a_table_without_rows_gives_a_report_without_rows():
    report = binary_report(predictions(FIVE).iloc[:0])
    assert tuple(report.columns) == REPORT_COLUMNS
    assert report.empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": 1.5}, r"must lie in \[0, 1\], got 1.5 \(candidate 1, model net, 5 such rows\)"),
        ({"probability": math.nan}, r"must lie in \[0, 1\], got nan"),
        ({"class": 2}, "class must be 0 or 1, got 2"),
        ({"threshold": math.nan}, r"threshold must lie in \[0, 1\], got nan"),
        ({"threshold_f1": 1.01}, r"threshold must lie in \[0, 1\], got 1.01"),
        ({"threshold_sensitivity": -0.1}, r"threshold must lie in \[0, 1\], got -0.1"),
        ({"calibrated": 1.5}, "or be missing, got 1.5"),
        ({"candidate_id": 7}, "must score a candidate once, got 7"),
    ],
)
def test_a_table_that_allows_no_honest_figure_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        binary_report(predictions(FIVE).assign(**change))


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match="got none named class, fold, calibrated"):
        binary_report(predictions(FIVE).drop(columns=["class", "fold", "calibrated"]))


def test_all_scans_of_a_patient_are_drawn_together():
    """Each nodule three times, in three scans of a patient: with scans as independent the interval is too narrow."""
    rng = np.random.default_rng(4)
    labels, scores = np.tile(np.repeat([0, 1], 60), 3), np.tile(rng.random(120) + np.repeat([0.0, 0.3], 60), 3) / 2
    rows = [
        ("m", number, int(label), float(score))
        for number, (label, score) in enumerate(zip(labels, scores, strict=True))
    ]
    table = predictions(rows).assign(series_instance_uid=[f"s{number:03d}" for number in range(360)])
    folds = pd.DataFrame(
        {"series_instance_uid": table["series_instance_uid"], "patient_hash": [f"{n % 120:x}" for n in range(360)]}
    )
    groups = patient_groups(folds)
    assert groups["s359"] == "s119"
    by_scan, by_patient = (binary_report(table, groups=each, num_bootstraps=200).iloc[0] for each in (None, groups))
    widths = [row["auc_upper"] - row["auc_lower"] for row in (by_scan, by_patient)]
    assert widths[1] / widths[0] == pytest.approx(3**0.5, rel=0.25)
    assert by_patient["auc"] == by_scan["auc"]


def test_patients_of_one_scan_change_no_draw():
    table = predictions([("m", number, number % 3 == 0, number * 7 % 10 / 10) for number in range(30)])
    table["series_instance_uid"] = [f"s{number:02d}" for number in range(30)]
    hashes = [None if number % 2 else f"{99 - number}" for number in range(30)]
    folds = pd.DataFrame({"series_instance_uid": table["series_instance_uid"], "patient_hash": hashes})
    both = [binary_report(table, groups=each, num_bootstraps=20) for each in (None, patient_groups(folds))]
    pd.testing.assert_frame_equal(*both)
