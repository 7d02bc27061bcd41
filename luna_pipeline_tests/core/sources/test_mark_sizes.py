"""Voxels within many outlines at once: numbers counted by hand, and the drawing of single outlines as oracle."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luna_pipeline.core.sources.contours import filled
from luna_pipeline.core.sources.lidc_database import LidcScan
from luna_pipeline.core.sources.mark_sizes import fill_outlines, mark_places, measure_voxels
from luna_pipeline.core.sources.reader_marks import Contour, ReaderMark
from luna_pipeline_tests.lidc_databases import square


def outline(z_mm: float, points: list[tuple[int, int]], *, is_inclusion: bool = True) -> Contour:
    return Contour(z_mm, is_inclusion, np.array(points))


def mark(*contours: Contour, uid: str = "1.2") -> ReaderMark:
    return ReaderMark(uid, "1", -1, contours, {"malignancy": 3})


def test_voxels_strictly_within_outlines_are_counted():
    # 3 x 3 voxels within the first square, 5 x 5 within the second.
    num_voxels, center_crz = measure_voxels([mark(outline(2.0, square(10, 20, 2)), outline(4.0, square(11, 20, 3)))])
    assert num_voxels.tolist() == [34]
    np.testing.assert_allclose(center_crz, [[(9 * 10 + 25 * 11) / 34, 20.0, (9 * 2 + 25 * 4) / 34]])


def test_exclusions_take_their_own_points_away_in_their_slice_only():
    hole = outline(2.0, square(10, 20, 1), is_inclusion=False)
    num_voxels, _ = measure_voxels([mark(outline(2.0, square(10, 20, 4)), hole, outline(4.0, square(10, 20, 4)))])
    assert num_voxels.tolist() == [49 - 9 + 49]


def test_overlapping_outlines_of_a_slice_are_united_and_marks_stay_apart():
    both = mark(outline(2.0, square(10, 20, 2)), outline(2.0, square(11, 20, 2)))
    num_voxels, center_crz = measure_voxels([both, mark(outline(2.0, square(10, 20, 2)))])
    assert num_voxels.tolist() == [12, 9]
    np.testing.assert_allclose(center_crz, [[10.5, 20, 2], [10, 20, 2]])


def test_outlines_without_voxels_have_their_points_centre():
    num_voxels, center_crz = measure_voxels([mark(outline(2.0, [(5, 7)]), outline(4.0, [(5, 8), (6, 8), (5, 8)]))])
    assert num_voxels.tolist() == [0]
    np.testing.assert_allclose(center_crz, [[5.25, 7.75, 3.5]])
    assert measure_voxels([])[1].shape == (0, 3)


def test_places_are_in_millimetres_from_the_first_voxel():
    scan = LidcScan("1.2", "", 2.0, 0.5, False, np.array([0.0, 1.5, 3.0, 4.5, 7.0]))
    places = mark_places([mark(outline(3.0, square(10, 20, 2)))], {"1.2": scan})
    np.testing.assert_allclose(places.center_mm, [[5.0, 10.0, 3.0]])
    # 9 voxels of 0.5 x 0.5 x 1.5 mm.
    np.testing.assert_allclose(np.pi / 6 * places.diameter_mm**3, 9 * 0.5 * 0.5 * 1.5)


points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=8)


@given(st.lists(points, min_size=1, max_size=4))
def test_many_outlines_are_filled_as_single_ones(polygons: list[list[tuple[int, int]]]):
    outlines = [np.array(polygon) for polygon in polygons]
    number, voxels_cr, is_border = fill_outlines(outlines)
    for own, polygon in enumerate(outlines):
        found = {(column, row) for column, row in voxels_cr[(number == own) & ~is_border].tolist()}
        winding = {(column, row) for row, column in np.argwhere(filled(polygon[:, ::-1], (10, 10))).tolist()}
        # Voxels that an outline winds around twice are outside here; LIDC-IDRI has no such outline.
        assert found <= winding
        border = {(column, row) for column, row in voxels_cr[(number == own) & is_border].tolist()}
        assert {(column, row) for column, row in polygon.tolist()} <= border
        assert len(found) + len(border) == ((number == own).sum())


@pytest.mark.real
def test_all_of_lidc_idri_is_measured_as_its_single_outlines(lidc_database: Path):
    from luna_pipeline.core.sources.lidc_database import read_lidc_database

    marks = read_lidc_database(lidc_database)[::60]
    num_voxels, _ = measure_voxels(marks)
    plain = [own for own, mark in enumerate(marks) if all(contour.is_inclusion for contour in mark.contours)]
    for own in plain:
        by_slice: dict[float, set[tuple[int, int]]] = {}
        for contour in marks[own].contours:
            low = contour.points_cr.min(axis=0)
            size = contour.points_cr.max(axis=0) - low + 1
            within = np.argwhere(filled((contour.points_cr - low)[:, ::-1], (int(size[1]), int(size[0])))) + low[::-1]
            by_slice.setdefault(contour.z_mm, set()).update(map(tuple, within.tolist()))
        assert abs(num_voxels[own] - sum(map(len, by_slice.values()))) <= 1
