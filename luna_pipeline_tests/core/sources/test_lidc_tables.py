"""Tables of LIDC-IDRI from hand-made marks: cubes of voxels on a grid of 1 mm."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.sources import mark_sizes
from luna_pipeline.core.sources.lidc_tables import lidc_tables
from luna_pipeline.core.sources.lidc_xml import RATING_TAGS, PointMark, SeriesReading
from luna_pipeline.core.sources.reader_marks import Contour, ReaderMark
from luna_pipeline.core.sources.source import RATINGS, READER_COLUMNS

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = VoxelGrid((20, 50, 60), (1.0, 1.0, 1.0), (100.0, 200.0, -300.0), AXIAL)


def cube(reader, *, column=20, row=20, first=5, side=3, **ratings):
    """A mark of ``side`` voxels along each axis from a column, a row and a slice on."""
    low_c, high_c, low_r, high_r = column - 1, column + side, row - 1, row + side
    points = np.array([(low_c, low_r), (high_c, low_r), (high_c, high_r), (low_c, high_r)])
    contours = tuple(Contour(-300.0 + index, True, points) for index in range(first, first + side))
    given = {name: 3 for name in RATINGS} | ratings
    return ReaderMark("1.2", f"{reader}-{column}", reader, contours, {k: v for k, v in given.items() if v is not None})


def tables_of(*marks, points=()):
    reading = SeriesReading("1.2", 4, tuple(marks), tuple(points), ())
    return lidc_tables({"1.2": reading}, {"1.2": GRID})


def test_three_marks_are_a_nodule_and_two_an_excluded_finding():
    near = [cube(reader, malignancy=reader + 1) for reader in (0, 1, 3)]
    far = [cube(reader, column=40, side=5) for reader in (1, 2)]
    tables = tables_of(*near, *far)
    diameter_mm, wider_mm = ((6 * side**3 / np.pi) ** (1 / 3) for side in (3, 5))
    expected = [["1.2", 121.0, 221.0, -294.0, pytest.approx(diameter_mm)]]
    assert tables.annotations.to_numpy(dtype=object).tolist() == expected
    expected = [["1.2", 142.0, 222.0, -293.0, pytest.approx(wider_mm)]]
    assert tables.excluded.to_numpy(dtype=object).tolist() == expected
    assert tables.ratings["ratings"].tolist() == [[1, 2, 4]]
    assert tables.ratings["is_malignant"].isna().all()
    assert tables.notes == (
        "Nodules of 3 mm or more by at least 1 / 2 / 3 / 4 readers: 2 / 2 / 1 / 0.",
        "Excluded findings: 1 (1 nodules by fewer than 3 readers, 0 marks of nodules below 3 mm, "
        "0 marks of non-nodules).",
    )


def test_each_mark_is_a_row_of_readers_with_its_own_size_and_ratings():
    marks = [cube(0, texture=1), cube(1, side=5, texture=None, calcification=6), cube(2, column=40)]
    readers = tables_of(*marks).readers.sort_values("reader")
    assert tuple(readers.columns) == READER_COLUMNS
    assert readers["reader"].tolist() == [0, 1, 2]
    assert readers["nodule"].tolist()[0] == readers["nodule"].tolist()[1] != readers["nodule"].tolist()[2]
    assert readers["volume_mm3"].tolist() == [27.0, 125.0, 27.0]
    assert readers["longest_axial_mm"].tolist() == pytest.approx([2 * 2**0.5 + 1, 4 * 2**0.5 + 1, 2 * 2**0.5 + 1])
    assert readers["texture"].tolist() == [1, pd.NA, 3]
    assert readers["calcification"].tolist() == [3, 6, 3]
    assert set(readers[list(RATINGS)].dtypes.astype(str)) == {"Int8"}
    assert set(RATING_TAGS) == set(RATINGS)


def test_a_reader_without_a_malignancy_rating_is_not_in_the_ratings():
    marks = [cube(0, malignancy=5), cube(1, malignancy=None), cube(2, malignancy=1)]
    assert tables_of(*marks).ratings["ratings"].tolist() == [[5, 1]]


def test_outlines_with_far_points_are_refused_before_they_are_filled():
    points = np.array([[0, 0], [4095, 4095], [4095, 0]])
    mark = ReaderMark("1.2", "1", 0, tuple(Contour(z_mm, True, points) for z_mm in (-300.0, -299.0)), {})
    with pytest.raises(ValueError, match=rf"at most 10000000 voxels .* got {2 * 4096**2} \(series 1\.2\)"):
        tables_of(mark)


def test_slices_between_outlines_count_too(monkeypatch: pytest.MonkeyPatch):
    first, _, last = cube(0, first=0).contours[0], *cube(0, first=16, side=4).contours[::3]
    mark = ReaderMark("1.2", "1", 0, (first, replace(last, points_cr=first.points_cr)), {})
    # Two outlines of 5 x 5 voxels, and 20 slices of the mask's box.
    monkeypatch.setattr(mark_sizes, "MAX_BOX_VOXELS", 2 * 25 + 20 * 25)
    assert len(tables_of(mark).excluded) == 1
    monkeypatch.setattr(mark_sizes, "MAX_BOX_VOXELS", 2 * 25 + 20 * 25 - 1)
    with pytest.raises(ValueError, match=r"got 550 \(series 1\.2\)"):
        tables_of(mark)


def test_two_marks_of_one_reader_are_two_nodules():
    marks = [cube(0), cube(0, column=22), cube(1), cube(2)]
    tables = tables_of(*marks)
    assert len(tables.annotations) == len(tables.excluded) == 1


def test_points_are_excluded_findings_without_a_diameter_at_their_voxel():
    points = [
        PointMark("small nodule", 0, -290.0, (10, 20)),
        PointMark("non-nodule", 1, -281.0, (30, 5)),
        PointMark("non-nodule", 1, -250.0, (30, 5)),
    ]
    tables = tables_of(points=points)
    assert tables.excluded.to_numpy(dtype=object).tolist() == [
        ["1.2", 110.0, 220.0, -290.0, -1.0],
        ["1.2", 130.0, 205.0, -281.0, -1.0],
    ]
    assert len(tables.annotations) == len(tables.readers) == 0
    assert "1 marks of nodules below 3 mm, 1 marks of non-nodules" in tables.notes[1]
    assert tables.notes[2] == "Warning: 1 points at no slice of their CT, left out."


def test_marks_that_do_not_fit_the_ct_are_warnings():
    partly = cube(0, first=18)
    marks = [partly, cube(1, first=40), cube(2, column=100), cube(3, column=30, side=1, first=2)]
    point = ReaderMark("1.2", "p", 3, (Contour(-290.0, True, np.array([(4, 4)])),), {})
    tables = tables_of(*marks, point)
    assert tables.notes[2:] == (
        "Warning: 1 outlines at no slice of their CT, left out.",
        "Warning: 1 readers' nodules of points that enclose no voxel.",
        "Warning: 2 readers' nodules outside of their CT, left out.",
    )
    assert tables.readers["volume_mm3"].tolist() == [1.0, 1.0, 18.0]


def test_a_reading_without_marks_gives_empty_tables():
    tables = tables_of()
    assert [len(table) for table in (tables.annotations, tables.excluded, tables.ratings, tables.readers)] == [0] * 4
    assert tables.scans is None
