"""Subgroups of six candidates, by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.evaluation.subgroups import SUBGROUP_COLUMNS, subgroup_report

# Two nodules of 4 and 9 mm in A, one of unknown diameter in B; the others are non-nodules.
ROWS = pd.DataFrame(
    {
        "candidate_id": [1, 2, 3, 4, 5, 6],
        "series_instance_uid": ["A", "A", "A", "B", "B", "C"],
        "class": [1, 1, 0, 1, 0, 0],
        "probability": [0.3, 0.9, 0.5, 0.8, 0.1, 0.7],
    }
)
NODULES = pd.DataFrame({"candidate_id": [2, 1, 4, 3], "diameter_mm": [9.0, 4.0, math.nan, 20.0]})
SERIES = pd.DataFrame({"series_instance_uid": ["C", "B", "A"], "spacing_mm": [3.0, 1.25, 2.5]})


def predictions(**columns) -> pd.DataFrame:
    others = {"x_mm": 0.0, "y_mm": 0.0, "z_mm": 0.0, "fold": 0, "model": "net", "calibrated": math.nan}
    thresholds = {"threshold": 0.5, "threshold_f1": 0.5, "threshold_sensitivity": 0.5}
    return ROWS.assign(**{**others, **thresholds, **columns})


def rows_of(kind: str, table: pd.DataFrame | None = None, *, nodules=NODULES, series=SERIES) -> pd.DataFrame:
    report = subgroup_report(predictions() if table is None else table, nodules=nodules, series=series)
    assert tuple(report.columns) == SUBGROUP_COLUMNS
    return report[report["kind"] == kind].set_index("group")


def test_nodules_of_a_diameter_are_ranked_against_all_other_candidates():
    rows = rows_of("diameter")
    assert rows.index.tolist() == ["< 6 mm", "8 to < 15 mm", "unknown", "non-nodule"]
    # Of the scores of the others (0.5, 0.1, 0.7) 0.3 beats one and 0.9 all.
    assert rows["auc"].tolist() == pytest.approx([1 / 3, 1.0, 1.0, math.nan], nan_ok=True)
    assert rows["sensitivity"].tolist() == pytest.approx([0.0, 1.0, 1.0, math.nan], nan_ok=True)
    assert rows["specificity"].tolist() == pytest.approx([math.nan] * 3 + [1 / 3], nan_ok=True)
    assert rows["num_nodules"].tolist() == [1, 1, 1, 0]
    assert rows["num_candidates"].tolist() == [1, 1, 1, 3]
    assert rows["num_series"].tolist() == [1, 1, 1, 3]


@pytest.mark.parametrize(
    ("diameter_mm", "band"),
    [(5.99, "< 6 mm"), (6.0, "6 to < 8 mm"), (8.0, "8 to < 15 mm"), (15.0, ">= 15 mm"), (60.0, ">= 15 mm")],
)
def test_bands_of_diameters_begin_with_their_edge(diameter_mm, band):
    nodules = NODULES.assign(diameter_mm=diameter_mm)
    assert rows_of("diameter", nodules=nodules).index.tolist() == [band, "non-nodule"]


@pytest.mark.parametrize(
    ("spacing_mm", "band"),
    [
        (0.625, "<= 1.25 mm"),
        (1.25, "<= 1.25 mm"),
        (2.0, "> 1.25 to 2 mm"),
        (2.5, "> 2 to 2.5 mm"),
        (2.51, "> 2.5 mm"),
        ((0.7, 0.7, 2.5), "> 2 to 2.5 mm"),
        (np.array([0.7, 0.7, 5.0]), "> 2.5 mm"),
    ],
)
def test_bands_of_slices_end_with_their_edge_and_go_by_the_third_axis(spacing_mm, band):
    series = SERIES.assign(spacing_mm=[spacing_mm] * 3)
    assert rows_of("slice_spacing", series=series).index.tolist() == [band]


@pytest.mark.parametrize("spacing_mm", [math.nan, None])
def test_a_spacing_that_is_missing_is_unknown(spacing_mm):
    series = SERIES.astype(object).assign(spacing_mm=[spacing_mm, 1.25, 2.5])
    assert rows_of("slice_spacing", series=series).index.tolist() == ["<= 1.25 mm", "> 2 to 2.5 mm", "unknown"]


def test_slices_part_all_candidates():
    rows = rows_of("slice_spacing")
    assert rows.index.tolist() == ["<= 1.25 mm", "> 2 to 2.5 mm", "> 2.5 mm"]
    assert rows["num_candidates"].tolist() == [2, 3, 1]
    assert rows["num_nodules"].tolist() == [1, 2, 0]
    assert rows["sensitivity"].tolist() == pytest.approx([1.0, 1 / 2, math.nan], nan_ok=True)
    assert rows["specificity"].tolist() == [1.0, 0.0, 0.0]
    assert rows["auc"].tolist() == pytest.approx([1.0, 1 / 2, math.nan], nan_ok=True)


def test_each_row_is_called_by_its_own_threshold():
    rows = rows_of("slice_spacing", predictions(threshold=[0.2, 0.2, 0.6, 0.9, 0.9, 0.9]))
    assert rows["sensitivity"].tolist() == pytest.approx([0.0, 1.0, math.nan], nan_ok=True)
    assert rows["specificity"].tolist() == [1.0, 1.0, 1.0]


def test_what_is_not_known_is_a_group_of_its_own_and_comes_last():
    series = SERIES.assign(manufacturer=["TOSHIBA", None, "GE"])
    assert rows_of("manufacturer", series=series).index.tolist() == ["GE", "TOSHIBA", "unknown"]


def test_thickness_and_spacing_of_slices_are_two_kinds():
    series = SERIES.assign(slice_thickness_mm=[5.0, math.nan, 1.25])
    assert rows_of("slice_spacing", series=series).index.tolist() == ["<= 1.25 mm", "> 2 to 2.5 mm", "> 2.5 mm"]
    rows = rows_of("slice_thickness", series=series)
    assert rows.index.tolist() == ["<= 1.25 mm", "> 2.5 mm", "unknown"]
    assert rows["num_candidates"].tolist() == [3, 1, 2]


def test_a_kind_of_which_nothing_is_known_is_left_out():
    report = subgroup_report(predictions(), nodules=NODULES, series=SERIES.assign(manufacturer=None))
    assert report["kind"].unique().tolist() == ["diameter", "slice_spacing"]
    nothing = subgroup_report(predictions(), nodules=NODULES.iloc[:0], series=SERIES.iloc[:0])
    assert (len(nothing), tuple(nothing.columns)) == (0, SUBGROUP_COLUMNS)


def test_nodules_are_divided_by_texture_and_calcification_where_readers_rated_them():
    nodules = NODULES.assign(texture=["solid", "non-solid", None, "solid"], calcification=None)
    rows = rows_of("texture", nodules=nodules)
    # Candidate 3 is no nodule, whatever it lies in.
    assert rows.index.tolist() == ["non-solid", "solid", "unknown", "non-nodule"]
    assert rows["num_candidates"].tolist() == [1, 1, 1, 3]
    assert rows["auc"].tolist() == pytest.approx([1 / 3, 1.0, 1.0, math.nan], nan_ok=True)
    assert rows_of("calcification", nodules=nodules).empty
    calcified = NODULES.assign(calcification=["not calcified", "calcified", "odd", None])
    assert rows_of("calcification", nodules=calcified).index.tolist() == [
        *("calcified", "not calcified", "unknown", "non-nodule"),
    ]


def test_candidates_and_series_that_the_tables_do_not_have_are_unknown():
    nodules, series = NODULES.iloc[:1], SERIES.iloc[:1]
    assert rows_of("diameter", nodules=nodules).index.tolist() == ["8 to < 15 mm", "unknown", "non-nodule"]
    assert rows_of("slice_spacing", series=series)["num_candidates"].to_dict() == {"> 2.5 mm": 1, "unknown": 5}


def test_models_come_one_after_the_other():
    table = pd.concat([predictions(), predictions(model="zero rule", probability=0.2)])
    report = subgroup_report(table, nodules=NODULES, series=SERIES)
    assert report["model"].unique().tolist() == ["net", "zero rule"]
    rows = rows_of("diameter", table).set_index("model", append=True)
    assert rows.loc[("8 to < 15 mm", "net"), "sensitivity"] == 1.0
    assert rows.loc[("8 to < 15 mm", "zero rule"), ["sensitivity", "auc"]].tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"nodules": NODULES.drop(columns="diameter_mm")}, "got none named diameter_mm"),
        ({"series": SERIES.drop(columns="series_instance_uid")}, "got none named series_instance_uid"),
        ({"nodules": pd.concat([NODULES, NODULES])}, "must have a row a candidate_id, got two of 2"),
    ],
)
def test_a_table_that_does_not_say_what_is_asked_is_refused(tables, message):
    with pytest.raises(ValueError, match=message):
        subgroup_report(predictions(), **{"nodules": NODULES, "series": SERIES, **tables})
