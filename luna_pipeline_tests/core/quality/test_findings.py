"""Which limits are broken, one by one."""

from pathlib import Path

import pandas as pd
import pytest

from luna_pipeline.core.quality.findings import DATA_SET, describe_limit, find_broken, lines_of, num_known
from luna_pipeline.core.quality.limits import LIMITS, PROBLEM, WARNING
from luna_pipeline_tests.core.quality.examples import scans_of

BROKEN = [
    ("no_missing_slices", {"missing_slices": 1, "is_readable": False}, "1"),
    (
        "voxels_are_hounsfield",
        {"is_hounsfield": False, "percentile_1_hu": 0, "median_hu": 5, "percentile_99_hu": 9},
        "9",
    ),
    ("slice_thickness", {"slice_thickness_mm": 2.6}, "2.6 mm"),
    ("slice_spacing", {"slice_spacing_mm": 3.2}, "3.2 mm"),
    ("slices_touch", {"gap_mm": 0.5}, "0.5 mm"),
    ("pixel_spacing", {"pixel_spacing_mm": 0.39}, "0.39 mm"),
    ("pixel_spacing", {"pixel_spacing_mm": 1.2}, "1.2 mm"),
    ("field_of_view", {"field_of_view_mm": 180.0}, "180 mm"),
    ("coverage", {"coverage_mm": 100.0}, "100 mm"),
    ("axes_are_straight", {"tilt_deg": 15.0}, "15 degrees"),
    ("axes_are_axial_lps", {"axes": "RAS"}, "RAS"),
    ("tube_voltage", {"tube_kv": 70.0}, "70 kV"),
    ("kernel_is_known", {"kernel": None}, "none"),
    ("padding", {"padding_share": 0.4}, "0.4"),
    ("air_peak", {"air_peak_hu": -705.0}, "-705 HU"),
    ("tissue_peak", {"tissue_peak_hu": 205.0}, "205 HU"),
    ("noise", {"noise_hu": 150.5}, "150.5 HU"),
    ("nodules_per_scan", {"num_nodules": 13}, "13"),
    ("smallest_nodule", {"smallest_nodule_mm": 2.9}, "2.9 mm"),
    ("largest_nodule", {"largest_nodule_mm": 80.0}, "80 mm"),
]


def test_scans_within_all_limits_break_none():
    assert find_broken(scans_of({}, {})).empty


@pytest.mark.parametrize(("name", "change", "got"), BROKEN)
def test_each_limit_names_its_scan_and_value_alone(name, change, got):
    (row,) = find_broken(scans_of({}, change)).to_dict("records")
    assert (row["limit"], row["series_instance_uid"]) == (name, "1.1")
    assert got in row["got"]
    assert f", got {row['got']} (series 1.1). " in row["text"]


@pytest.mark.parametrize(
    ("changes", "name", "got"),
    [
        ([{"contrast": "given"}, {}, {}], "contrast_is_uniform", "1 of 3"),
        ([{"manufacturer": "Rare"}] + [{}] * 20, "no_rare_manufacturer", "1 of 21 of Rare"),
        ([{"fold": 0}] * 5 + [{"fold": 1}] * 2, "folds_are_even", "2 to 5"),
    ],
)
def test_limits_of_the_data_set(changes, name, got):
    (row,) = find_broken(scans_of(*changes)).to_dict("records")
    assert (row["limit"], row["series_instance_uid"], row["level"]) == (name, DATA_SET, WARNING)
    assert got in row["got"]


def test_every_limit_of_scans_has_a_case_and_problems_come_first():
    tested = {name for name, *_ in BROKEN} | {"contrast_is_uniform", "no_rare_manufacturer", "folds_are_even"}
    assert {limit.name for limit in LIMITS} - tested == {"no_scan_twice", "no_scan_twice_across_folds"}
    levels = find_broken(scans_of({"tilt_deg": 9.0, "missing_slices": 2}))["level"].tolist()
    assert levels == [PROBLEM, WARNING]
    assert all(limit.reason and limit.source and limit.advice for limit in LIMITS)


@pytest.mark.parametrize(
    ("folds", "name"),
    [((0, 1), "no_scan_twice_across_folds"), ((1, 1), "no_scan_twice"), ((None, None), "no_scan_twice")],
)
def test_copies_are_a_problem_in_two_folds_and_odd_in_one(folds, name):
    scans = scans_of(*({"content_digest": "same", "fold": fold} for fold in folds), {"fold": 1})
    (row,) = find_broken(scans).query("limit != 'folds_are_even'").to_dict("records")
    assert row["limit"] == name
    assert "2 copies" in row["got"]
    assert "1.1" in row["got"]


def test_what_is_not_known_breaks_nothing():
    unknown = {
        name: None for name in scans_of({}).columns if name not in {"series_instance_uid", "format", "is_readable"}
    }
    scans = scans_of(unknown | {"format": "metaimage"})
    assert find_broken(scans).empty
    assert [num_known(limit, scans) for limit in LIMITS] == [0] * len(LIMITS)
    (line,) = lines_of(find_broken(scans), scans)
    assert line.startswith("Not looked at, as the value is known of no scan: no_missing_slices, voxels_are_hounsfield,")
    assert describe_limit(LIMITS[1], find_broken(scans), scans).endswith(": not looked at, known of 0 of 1 scans.")


def test_copies_across_folds_are_known_where_voxels_and_folds_are():
    scans = scans_of({"fold": 0}, {"fold": None}, {"fold": 1, "content_digest": None}, {"fold": 1, "axes": None})
    known = {limit.name: num_known(limit, scans) for limit in LIMITS}
    assert (known["no_scan_twice_across_folds"], known["no_scan_twice"], known["axes_are_axial_lps"]) == (2, 3, 3)
    assert (known["folds_are_even"], known["noise"], known["contrast_is_uniform"]) == (3, 4, 0)


def test_a_limit_is_described_in_one_line_with_three_scans_at_most():
    scans = scans_of(*[{"slice_thickness_mm": 5.0}] * 5)
    limit = next(limit for limit in LIMITS if limit.name == "slice_thickness")
    line = describe_limit(limit, find_broken(scans), scans)
    assert line.count("5 mm (1.") == 3
    assert "and 2 more" in line
    assert "\n" not in line
    good = scans_of({}, {"slice_thickness_mm": None})
    assert describe_limit(limit, find_broken(good), good) == f"{limit.rule}: known of 1 of 2 scans."
    assert isinstance(find_broken(scans), pd.DataFrame)


def test_the_documentation_names_every_limit_as_it_is():
    text = (Path(__file__).resolve().parents[3] / "docs/how_to/describe_data.md").read_text()
    for limit in LIMITS:
        cells = (f"`{limit.name}`", limit.level, limit.rule, limit.reason, limit.source, limit.advice)
        assert f"| {' | '.join(cells)} |" in text, limit.name
