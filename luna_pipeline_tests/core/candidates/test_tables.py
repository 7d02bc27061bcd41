import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from luna_pipeline.core.candidates.tables import CANDIDATE_COLUMNS, REJECTED_COLUMNS, build_candidates
from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline_tests.phantoms import random_direction, random_hounsfield, write_ct, write_tables

SIZE_IRC = (40, 50, 60)
ORIGIN, SPACING = (-30.0, -25.0, -20.0), (1.0, 1.0, 1.0)
A, B = "1.2.1", "1.2.2"


@pytest.fixture(scope="module")
def ct_root(tmp_path_factory):
    """Two readable scans of 60 x 50 x 40 mm around (0, 0, 0), one without voxels."""
    root = tmp_path_factory.mktemp("cts")
    for uid in (A, B, "1.2.8"):
        write_ct(root, uid, random_hounsfield(SIZE_IRC), origin_xyz=ORIGIN, spacing_mm=SPACING)
    (root / "1.2.8.raw").unlink()
    return root


@pytest.fixture(scope="module")
def catalogue(ct_root):
    return catalogue_series(ct_root, patient_key=b"key")


@pytest.fixture
def build(tmp_path, catalogue):
    def run(**tables):
        write_tables(tmp_path, **tables)
        return build_candidates(tmp_path, catalogue)

    return run


def test_columns_and_types_are_the_same_with_and_without_rows(build):
    full = build(candidates=[(A, 0, 0, 0, 0)], annotations=[(A, 5, 5, 5, 4)], malignancy=[(A, 5, 5, 5, 4, True, "[4]")])
    empty = build(candidates=[], annotations=[], malignancy=[])
    for tables in (full, empty):
        assert tables.candidates.dtypes.astype(str).to_dict() == CANDIDATE_COLUMNS
        assert tuple(tables.rejected.columns) == REJECTED_COLUMNS
        assert tables.rejected.line.dtype == "int64"


def test_a_small_set_by_hand(build):
    tables = build(
        candidates=[
            (A, 1, 0, 0, 1),
            (A, 0, 1, 0, 1),
            (A, 10, 10, 10, 0),
            (A, 0, 2.9, 0, 0),
            (A, 20, 0, 0, 1),
            (B, 0, 0, 0, 0),
        ],
        annotations=[(A, 0, 0, 0, 6), (A, 10, 10, 14, 8)],
        malignancy=[(A, 0.1, 0, 0, 6, True, "[4, 4, 1]")],
    )
    table = tables.candidates.set_index(["source", "series_instance_uid", "x_mm", "y_mm"]).sort_index()
    rows = {key: (row["class"], row.diameter_mm, row.malignancy, row.is_malignant) for key, row in table.iterrows()}
    nan, unknown = pytest.approx(math.nan, nan_ok=True), pd.NA
    assert rows == {
        ("candidate", A, 1.0, 0.0): (1, 6.0, 3.0, True),
        ("candidate", A, 0.0, 1.0): (1, 6.0, 3.0, True),
        # 4 mm from the centre of an 8 mm nodule: on its surface.
        ("candidate", A, 10.0, 10.0): (0, nan, nan, unknown),
        ("candidate", A, 0.0, 2.9): (0, 6.0, 3.0, True),
        ("candidate", A, 20.0, 0.0): (1, nan, nan, unknown),
        ("candidate", B, 0.0, 0.0): (0, nan, nan, unknown),
        ("annotation", A, 0.0, 0.0): (1, 6.0, 3.0, True),
        ("annotation", A, 10.0, 10.0): (1, 8.0, nan, unknown),
    }
    assert tables.counts == {
        "rows_candidates": 6,
        "rows_annotations": 2,
        "rows_malignancy": 1,
        "kept": 8,
        "kept_candidates": 6,
        "kept_annotations": 2,
        "rejected": 0,
        "rows_without_ct": 0,
        "annotations_rated": 1,
        "class_1_outside_annotations": 1,
        "class_0_inside_annotations": 1,
    }


@pytest.mark.seed_defect(15)
def test_detections_keep_their_place_and_annotations_are_told_apart(build):
    tables = build(candidates=[(A, 1.25, 0, 0, 1)], annotations=[(A, 0, 0, 0, 6)])
    by_source = tables.candidates.set_index("source")
    assert by_source.loc["candidate", ["x_mm", "class"]].tolist() == [1.25, 1]
    assert by_source.loc["annotation", ["x_mm", "class"]].tolist() == [0.0, 1]


@pytest.mark.seed_defect("o")
def test_ratings_of_the_nearest_nodule_count(build):
    malignancy = [(A, 3, 0, 0, 20, False, "[1, 1]"), (A, 1, 0, 0, 20, True, "[5, 5]")]
    tables = build(annotations=[(A, 0, 0, 0, 20)], malignancy=malignancy)
    assert tables.candidates.malignancy.tolist() == [5.0]


def test_each_series_has_its_own_nodules(build):
    tables = build(
        candidates=[(B, 1, 0, 0, 0), (A, 1, 0, 0, 0), (B, 9, 9, 9, 0)],
        annotations=[(B, 9, 9, 9, 5), (A, 0, 0, 0, 6), (B, 0, 0, 0, 7)],
        malignancy=[(A, 0, 0, 0, 6, "", "[2]"), (B, 0, 0, 0, 7, "", "[3]"), (B, 9, 9, 9, 5, "", "[4]")],
    )
    found = tables.candidates.set_index(["series_instance_uid", "x_mm"]).query("source == 'candidate'")
    assert found.diameter_mm.to_dict() == {(A, 1.0): 6.0, (B, 1.0): 7.0, (B, 9.0): 5.0}
    assert found.malignancy.to_dict() == {(A, 1.0): 2.0, (B, 1.0): 3.0, (B, 9.0): 4.0}


@pytest.mark.seed_defect("o")
def test_matching_stays_within_the_series(build):
    tables = build(candidates=[(B, 0, 0, 0, 0)], annotations=[(A, 0, 0, 0, 30)])
    assert tables.candidates.set_index("series_instance_uid").diameter_mm.isna().to_dict() == {A: False, B: True}


@pytest.mark.seed_defect(17, 28, "f")
def test_bad_rows_are_rejected_with_their_reason_and_cost_no_other(build):
    bad = [
        ((A, "abc", 0, 0, 0), "coordinate is not a number"),
        ((A, "", 0, 0, 0), "coordinate is not a number"),
        ((A, 0, "NaN", 0, 0), "coordinate is not finite"),
        ((A, 0, 0, "-inf", 0), "coordinate is not finite"),
        ((A, 0, 0, 0, 2), "class is not 0 or 1"),
        ((A, 0, 0, 0, "nodule"), "class is not 0 or 1"),
        ((A, 29.5, 0, 0, 0), "outside the CT"),
        ((A, 0, 0, -20.51, 0), "outside the CT"),
        ((A, 4294967301.0, 0, 0, 0), "outside the CT"),
        ((A, 1e300, 0, 0, 0), "outside the CT"),
        (("1.2.8", 0, 0, 0, 0), "CT of the series is not readable"),
    ]
    good = [(A, 29.49, 0, 0, 0), (A, -30.5, 0, 0, 0), (B, 0, 0, 0, "1.0")]
    tables = build(candidates=[row for row, _ in bad] + good, annotations=[(B, 1, 1, 1, 0), (A, 0, 0, 0, -1)])
    assert len(tables.candidates) == len(good)
    rejected = tables.rejected[tables.rejected.file == "candidates_V2.csv"]
    assert rejected.reason.tolist() == [reason for _, reason in bad]
    assert rejected.line.tolist() == list(range(2, 2 + len(bad)))
    assert rejected[["series_instance_uid", "x", "y", "z", "value"]].to_numpy().tolist() == [
        [str(cell) for cell in row] for row, _ in bad
    ]
    others = tables.rejected[tables.rejected.file == "annotations.csv"]
    assert others.reason.tolist() == ["diameter is not a positive number of mm"] * 2
    assert tables.counts["rejected"] == len(bad) + 2


def test_bad_ratings_are_rejected_and_the_nodule_stays(build):
    tables = build(annotations=[(A, 0, 0, 0, 6)], malignancy=[(A, 0, 0, 0, 6, "", "[9]"), (A, "x", 0, 0, 6, "", "[4]")])
    assert tables.candidates.malignancy.isna().tolist() == [True]
    assert tables.rejected.reason.tolist() == ["ratings are not numbers from 1 to 5", "coordinate is not a number"]
    assert set(tables.rejected.file) == {"annotations_with_malignancy.csv"}


@pytest.mark.seed_defect("f")
def test_rows_of_series_without_a_ct_are_counted_only(build):
    tables = build(
        candidates=[("9.9.9", 0, 0, 0, 1), ("9.9.9", "abc", 0, 0, 0), (A, 0, 0, 0, 0)],
        annotations=[("9.9.8", 0, 0, 0, 4)],
        malignancy=[("9.9.8", 0, 0, 0, 4, True, "[4]")],
    )
    assert tables.counts["rows_without_ct"] == 3
    assert len(tables.candidates) == 1
    assert len(tables.rejected) == 0


@pytest.mark.seed_defect(31)
def test_a_second_copy_of_a_series_costs_no_candidate(tmp_path):
    for folder in ("a", "b"):
        write_ct(tmp_path / folder, A, random_hounsfield(SIZE_IRC), origin_xyz=ORIGIN, spacing_mm=SPACING)
    write_tables(tmp_path, candidates=[(A, 0, 0, 0, 0)])
    tables = build_candidates(tmp_path, catalogue_series(tmp_path, patient_key=b"key"))
    assert (len(tables.candidates), len(tables.rejected)) == (1, 0)


@pytest.mark.seed_defect(21, 25)
def test_outside_is_told_on_an_oblique_grid(tmp_path):
    path = write_ct(tmp_path, A, random_hounsfield(), direction=random_direction(3))
    catalogue = catalogue_series(tmp_path, patient_key=b"key")
    image = sitk.ReadImage(str(path))
    middle_xyz = image.TransformContinuousIndexToPhysicalPoint((5, 4, 3))
    points = np.random.default_rng(0).uniform(-6, 6, (400, 3)) + middle_xyz
    size = np.array(image.GetSize())
    voxels = np.array([image.TransformPhysicalPointToIndex(point) for point in points.tolist()])
    is_inside = ((voxels >= 0) & (voxels < size)).all(axis=1)
    assert 20 < is_inside.sum() < 380
    write_tables(tmp_path, candidates=[(A, *point, 0) for point in points.tolist()])
    tables = build_candidates(tmp_path, catalogue)
    assert tables.rejected.line.tolist() == (np.flatnonzero(~is_inside) + 2).tolist()


@pytest.mark.seed_defect(3, 30)
def test_ids_do_not_depend_on_other_rows_or_their_order(build):
    rows = [(A, 1, 2, 3, 0), (A, 1, 2, 3, 1), (A, 1, 2, 3, 1), (B, 1, 2, 3, 0), (A, "1.0", 2, 3, 0)]
    first = build(candidates=rows, annotations=[(A, 1, 2, 3, 5)]).candidates
    assert first.candidate_id.is_unique
    changed = build(candidates=[(A, 4, 4, 4, 1), *reversed(rows)], annotations=[(A, 1, 2, 3, 5)]).candidates
    both = first.merge(changed, on="candidate_id", suffixes=("", "_changed"))
    assert len(both) == len(first) == 6
    for column in ("series_instance_uid", "source", "class"):
        assert both[column].tolist() == both[f"{column}_changed"].tolist()


def test_rows_are_sorted_by_series_and_id(build):
    table = build(candidates=[(uid, x, 0, 0, 0) for x in range(9) for uid in (B, A)]).candidates
    expected = table.sort_values(["series_instance_uid", "candidate_id"], ignore_index=True)
    pd.testing.assert_frame_equal(table, expected)


def test_categories_are_those_that_occur_sorted(build):
    candidates = [(B, 0, 0, 0, 0), (A, 0, 0, 0, 0), (A, "x", 0, 0, 0), (A, 0, "x", 0, 0)]
    tables = build(candidates=candidates)
    assert list(tables.candidates.series_instance_uid.cat.categories) == [A, B]
    assert tables.rejected.dtypes.astype(str)[["file", "series_instance_uid", "reason"]].tolist() == ["category"] * 3
    # Only series and reasons that occur are categories.
    assert tables.rejected.reason.value_counts().to_dict() == {"coordinate is not a number": 2}
    assert tables.rejected.series_instance_uid.value_counts().to_dict() == {A: 2}
    assert list(build(candidates=candidates[:1]).candidates.series_instance_uid.cat.categories) == [B]


def test_a_file_with_quotes_gives_the_same_rows_and_ids(build, tmp_path):
    rows = [(A, "1.50", 2, 3, 0), (B, "-0.25", 1, 1, 1), (A, "1.50", 2, 3, 1), (A, "abc", 0, 0, 0), (B, 1e3, 0, 0, 0)]
    clean = build(candidates=rows)
    lines = ['"' + '", "'.join(map(str, row)) + '"' for row in rows]
    path = tmp_path / "candidates_V2.csv"
    path.write_text("\r\n".join(["seriesuid,coordX,coordY,coordZ,class", *lines, "", ""]))
    quoted = build()
    pd.testing.assert_frame_equal(quoted.candidates, clean.candidates)
    pd.testing.assert_frame_equal(quoted.rejected, clean.rejected)
    assert len(clean.rejected) == 2


@pytest.mark.seed_defect(16)
def test_annotations_alone_or_candidates_alone_will_do(build, tmp_path):
    assert build(annotations=[(A, 0, 0, 0, 6)]).candidates.source.tolist() == ["annotation"]
    (tmp_path / "annotations.csv").unlink()
    alone = build(candidates=[(A, 0, 0, 0, 1)])
    assert alone.candidates.source.tolist() == ["candidate"]
    assert alone.counts["class_1_outside_annotations"] == 0


def test_version_2_of_the_candidates_comes_first(build, tmp_path):
    (tmp_path / "candidates.csv").write_text(f"seriesuid,coordX,coordY,coordZ,class\n{A},7,7,7,0\n")
    assert build().candidates.x_mm.tolist() == [7.0]
    assert build(candidates=[(A, 1, 1, 1, 0)]).candidates.x_mm.tolist() == [1.0]


@pytest.mark.seed_defect(16)
def test_without_candidates_and_annotations_both_names_are_said(tmp_path, catalogue):
    with pytest.raises(FileNotFoundError, match=r"candidates_V2.csv or candidates.csv or annotations.csv, got neither"):
        build_candidates(tmp_path, catalogue)


def test_a_missing_column_names_the_file(tmp_path, catalogue):
    (tmp_path / "candidates_V2.csv").write_text("seriesuid,coordX,coordY,class\n")
    with pytest.raises(ValueError, match=r"Column coordZ must be .*candidates_V2.csv"):
        build_candidates(tmp_path, catalogue)


@pytest.mark.seed_defect(35)
@pytest.mark.filterwarnings("error")
def test_no_warning_whatever_is_empty(build):
    tables = [
        build(candidates=[], annotations=[(A, 0, 0, 0, 6)], malignancy=[]),
        build(candidates=[(A, 0, 0, 0, 0)], annotations=[], malignancy=[]),
        build(candidates=[("9.9", 0, 0, 0, 0)], annotations=[("9.9", 0, 0, 0, 6)], malignancy=[]),
        build(candidates=[(A, "x", 0, 0, 0)], annotations=[(A, "x", 0, 0, 6)], malignancy=[(A, "x", 0, 0, 6, "", "")]),
    ]
    assert [len(table.candidates) for table in tables] == [1, 1, 0, 0]


def test_importing_candidates_loads_nothing_heavy():
    code = (
        "import sys, luna_pipeline.core.candidates.tables, luna_pipeline.core.candidates.folds;"
        "print({'torch', 'SimpleITK', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"


@pytest.mark.slow
def test_a_table_of_luna16s_size_is_kept_whole(tmp_path, catalogue):
    uids = catalogue.series_instance_uid[catalogue.is_readable].tolist()
    points = np.random.default_rng(0).uniform(-19, 19, (754_975, 3)).tolist()
    write_tables(tmp_path, candidates=[(uids[row % 2], *point, 0) for row, point in enumerate(points)])
    assert len(build_candidates(tmp_path, catalogue).candidates) == 754_975
