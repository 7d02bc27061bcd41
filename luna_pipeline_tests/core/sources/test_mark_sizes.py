"""Voxels within many outlines at once: numbers counted by hand, and a test of each voxel in whole numbers as oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luna_pipeline.core.sources import mark_sizes
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


def test_marks_are_measured_in_parts(monkeypatch: pytest.MonkeyPatch):
    marks = [mark(outline(2.0, square(10 + at, 20, 2)), outline(3.0, square(10, 20, 1))) for at in range(9)]
    whole = measure_voxels(marks)
    # The last mark has 12 x 5 voxels in the box around two outlines.
    for limit in (130, 200, 500):
        monkeypatch.setattr(mark_sizes, "MAX_BOX_VOXELS", limit)
        for part, expected in zip(measure_voxels(marks), whole, strict=True):
            np.testing.assert_array_equal(part, expected)
    monkeypatch.setattr(mark_sizes, "MAX_BOX_VOXELS", 119)
    with pytest.raises(ValueError, match=r"at most 119 voxels in the boxes around them, got 120 \(series 1\.2\)"):
        measure_voxels(marks)


def is_on(point: tuple[int, int], start: tuple[int, int], end: tuple[int, int]) -> bool:
    (x, y), (x0, y0), (x1, y1) = point, start, end
    is_level = (x1 - x0) * (y - y0) == (y1 - y0) * (x - x0)
    return is_level and min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1)


def is_crossed(point: tuple[int, int], start: tuple[int, int], end: tuple[int, int]) -> bool:
    """Return whether the line from a point to the left crosses an edge, which has its upper end only."""
    (x, y), (x0, y0), (x1, y1) = point, *sorted([start, end], key=lambda place: place[1])
    return y0 <= y < y1 and (x0 - x) * (y1 - y0) + (y - y0) * (x1 - x0) <= 0


def voxels_of(polygon: list[tuple[int, int]]) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return the voxels strictly within a polygon and those on it."""
    edges = list(zip(polygon, polygon[1:] + polygon[:1], strict=True))
    places = [(x, y) for x in range(-1, 12) for y in range(-1, 12)]
    on = {place for place in places if any(is_on(place, *edge) for edge in edges)}
    odd = {place for place in places if sum(is_crossed(place, *edge) for edge in edges) % 2}
    return odd - on, on


points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8)


@given(st.lists(points, min_size=1, max_size=4))
def test_many_outlines_are_filled_as_each_voxel_is_tested(polygons: list[list[tuple[int, int]]]):
    number, voxels_cr, is_border = fill_outlines([np.array(polygon) for polygon in polygons])
    for own, polygon in enumerate(polygons):
        within, on = voxels_of(polygon)
        assert {tuple(place) for place in voxels_cr[(number == own) & ~is_border].tolist()} == within
        assert {tuple(place) for place in voxels_cr[(number == own) & is_border].tolist()} == on
        assert (number == own).sum() == len(within) + len(on)
