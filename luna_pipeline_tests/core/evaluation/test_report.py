"""The binary report against paper arithmetic."""

import math

import pandas as pd
import pytest

from luna_pipeline.core.evaluation.report import REPORT_COLUMNS, binary_report


def predictions(rows: list[tuple[str, int, int, float]]) -> pd.DataFrame:
    """Rows of (model, candidate, class, probability); candidates 1-3 are of series A, the others of B."""
    return pd.DataFrame(
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


# Five candidates. Of the 2 x 3 pairs of nodule and other, 5 are in the right order: only (0.4, 0.6) is not.
FIVE = [("net", 1, 1, 0.9), ("net", 2, 0, 0.6), ("net", 3, 1, 0.4), ("net", 4, 0, 0.3), ("net", 5, 0, 0.1)]


def test_report_agrees_with_paper_arithmetic():
    row = binary_report(predictions(FIVE), {"net": 0.5}).iloc[0].to_dict()

    assert row["auc"] == pytest.approx(5 / 6)
    # Precision is 1/1 at the first nodule and 2/3 at the second.
    assert row["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert (row["sensitivity"], row["specificity"]) == (pytest.approx(1 / 2), pytest.approx(2 / 3))
    counts = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    assert [row[name] for name in counts] == [1, 1, 2, 1]
    assert [row[name] for name in ("num_candidates", "num_nodules", "num_series")] == [5, 2, 2]


def test_a_score_equal_to_the_threshold_is_a_nodule():
    row = binary_report(predictions(FIVE), {"net": 0.4}).iloc[0]
    assert (row["true_positives"], row["false_negatives"], row["sensitivity"]) == (2, 0, 1.0)


def test_one_row_a_model_in_order_each_with_its_own_threshold():
    zero = [("zero rule", candidate, label, 0.2) for _, candidate, label, _ in FIVE]
    report = binary_report(predictions(FIVE + zero), {"net": 0.5, "zero rule": 0.2})

    assert tuple(report.columns) == REPORT_COLUMNS
    assert list(report["model"]) == ["net", "zero rule"]
    assert list(report["auc"]) == pytest.approx([5 / 6, 0.5])
    assert list(report["false_positives"]) == [1, 3]


@pytest.mark.seed_defect(41)
@pytest.mark.parametrize(
    ("label", "undefined", "defined"), [(0, "sensitivity", "specificity"), (1, "specificity", "sensitivity")]
)
def test_with_one_class_alone_what_is_undefined_is_nan(label, undefined, defined):
    one_class = [(model, candidate, label, score) for model, candidate, _, score in FIVE]
    row = binary_report(predictions(one_class), {"net": 0.5}).iloc[0]

    assert math.isnan(row["auc"])
    assert math.isnan(row[undefined])
    assert row[defined] == pytest.approx(3 / 5 if label == 0 else 2 / 5)


def test_a_table_without_rows_gives_a_report_without_rows():
    report = binary_report(predictions(FIVE).iloc[:0], {})
    assert tuple(report.columns) == REPORT_COLUMNS
    assert report.empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": 1.5}, r"must lie in \[0, 1\], got 1.5 \(candidate 1, model net, 5 such rows\)"),
        ({"probability": math.nan}, r"must lie in \[0, 1\], got nan"),
        ({"class": 2}, "class must be 0 or 1, got 2"),
        ({"candidate_id": 7}, "must score a candidate once, got 7"),
    ],
)
def test_a_table_that_allows_no_honest_figure_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        binary_report(predictions(FIVE).assign(**change), {"net": 0.5})


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match="got none named class, fold"):
        binary_report(predictions(FIVE).drop(columns=["class", "fold"]), {"net": 0.5})


def test_a_model_without_threshold_is_named():
    with pytest.raises(ValueError, match="got none for net"):
        binary_report(predictions(FIVE), {"other": 0.5})
