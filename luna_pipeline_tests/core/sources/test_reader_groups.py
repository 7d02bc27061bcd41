"""Rules that put readers' marks together, on positions computed by hand."""

import numpy as np
import pytest

from luna_pipeline.core.sources.reader_groups import GROUP_RULES, NoduleGroup, SeriesMarks
from luna_pipeline.core.sources.reader_marks import Contour, ReaderMark
from luna_pipeline_tests.lidc_databases import square


def by_luna16(*balls: tuple[float, float, int]) -> list[NoduleGroup]:
    """Put balls on the x axis together: position, diameter, session."""
    center_mm = np.array([[x_mm, 0.0, 0.0] for x_mm, _, _ in balls]).reshape(-1, 3)
    diameter_mm = np.array([diameter for _, diameter, _ in balls])
    return GROUP_RULES.get("luna16")(SeriesMarks(center_mm, diameter_mm, [session for *_, session in balls]))


def test_means_are_repeated_from_the_last_session_to_the_first():
    (nodule,) = by_luna16((0.0, 8.0, 0), (1.0, 10.0, 1), (2.0, 6.0, 2))
    # (6 + 10) / 2 = 8, then (8 + 8) / 2; (2 + 1) / 2 = 1.5, then (1.5 + 0) / 2.
    assert nodule.marks == (2, 1, 0)
    assert (nodule.center_mm[0], nodule.diameter_mm) == (0.75, 8.0)
    assert [(center[0], diameter) for center, diameter in nodule.earlier] == [(2.0, 6.0), (1.5, 8.0)]


def test_marks_at_the_sum_of_their_radii_stay_apart():
    assert len(by_luna16((0.0, 4.0, 0), (5.0, 6.0, 1))) == 2
    assert len(by_luna16((0.0, 4.0, 0), (4.99, 6.0, 1))) == 1


def test_marks_of_one_session_stay_apart():
    assert sorted(nodule.marks for nodule in by_luna16((0.0, 10.0, 0), (1.0, 10.0, 0))) == [(0,), (1,)]
    # The later mark of a session is put together first; the other one finds nothing left.
    assert sorted(nodule.marks for nodule in by_luna16((0.0, 10.0, 0), (1.0, 10.0, 0), (0.5, 10.0, 1))) == [
        (0,),
        (2, 1),
    ]


def test_a_mark_takes_all_nodules_that_it_overlaps():
    (nodule,) = by_luna16((0.0, 30.0, 0), (-10.0, 20.0, 1), (10.0, 20.0, 1))
    # The nodules' order is 2, 1: (0 + 10) / 2 = 5 and (30 + 20) / 2 = 25, then (5 - 10) / 2 and (25 + 20) / 2.
    assert (nodule.center_mm[0], nodule.diameter_mm) == (-2.5, 22.5)
    assert sorted(nodule.marks) == [0, 1, 2]
    assert [diameter for _, diameter in nodule.earlier] == [20.0, 20.0]
    # Once it has moved to 5, the ball at -10 is out of reach: 15 mm, and (17 + 4) / 2.
    assert sorted(it.marks for it in by_luna16((0.0, 30.0, 0), (-10.0, 4.0, 1), (10.0, 4.0, 1))) == [(1,), (2, 0)]


def test_each_mark_is_in_one_group():
    random = np.random.default_rng(3)
    balls = [
        (float(x), float(size), int(session))
        for x, size, session in zip(
            random.uniform(0, 60, 40), random.uniform(3, 20, 40), random.integers(0, 4, 40), strict=True
        )
    ]
    nodules = by_luna16(*balls)
    assert sorted(mark for nodule in nodules for mark in nodule.marks) == list(range(40))
    assert sum(len(nodule.earlier) + 1 for nodule in nodules) == 40
    assert by_luna16() == []


def by_pylidc(rows: list[int], thickness_mm: float) -> list[list[int]]:
    """Put marks in one column, of squares at rows of voxels, together."""
    marks = [ReaderMark("1", "1", -1, (Contour(0.0, True, np.array(square(20, row, 1))),), {}) for row in rows]
    center_mm = np.array([[20.0, row, 0.0] for row in rows]).reshape(-1, 3)
    series = SeriesMarks(center_mm, np.full(len(rows), 4.0), [0] * len(rows), marks, np.arange(3.0), thickness_mm)
    return [sorted(nodule.marks) for nodule in GROUP_RULES.get("pylidc")(series)]


def test_pylidc_connects_outlines_that_are_near():
    # Squares of rows 19-21 and 24-26 are 3 voxels apart.
    assert by_pylidc([20, 25, 40], 3.0) == [[0, 1], [2]]
    assert by_pylidc([20, 25, 40], 2.9) == [[0], [1], [2]]
    assert by_pylidc([], 3.0) == []


def test_pylidc_lowers_its_limit_until_no_group_has_more_than_four():
    # Gaps of 1 voxel, but one of 3: with the limit 3 all six are connected, with 2.7 three and three.
    assert by_pylidc([10, 13, 16, 21, 24, 27], 3.0) == [[0, 1, 2], [3, 4, 5]]


def test_pylidc_uses_voxels_and_slices_for_distances():
    first, second = (Contour(z_mm, True, np.array(square(20, 20, 1))) for z_mm in (0.0, 8.0))
    marks = [ReaderMark("1", "1", -1, (contour,), {}) for contour in (first, second)]
    series = SeriesMarks(np.zeros((2, 3)), np.ones(2), [0, 1], marks, np.array([0.0, 8.0]), 1.0)
    # One slice apart, though 8 mm.
    assert len(GROUP_RULES.get("pylidc")(series)) == 1


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="rule for readers' marks must be one of luna16, pylidc, got 'mean'"):
        GROUP_RULES.check("mean")
