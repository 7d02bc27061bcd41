"""Pictures of outlines over slices: sizes, places and colours of their pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.sources.contour_picture import READER_COLOURS, SIDE_PIXELS, Ball, contour_picture
from luna_pipeline.core.sources.reader_marks import Contour, ReaderMark

GRID = VoxelGrid((8, 60, 60), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
SQUARE = np.array([(20, 20), (30, 20), (30, 30), (20, 30)])


def mark(reader, *slices, points=SQUARE, is_inclusion=True):
    contours = tuple(Contour(2.0 * index, is_inclusion, points) for index in slices)
    return ReaderMark("1.2", str(reader), reader, contours, {})


def drawn(marks, **options) -> np.ndarray:
    volume = np.full(GRID.size_irc, -600, dtype=np.int16)
    volume[:, 20:31, 20:31] = 150
    with Image.open(io.BytesIO(contour_picture(volume, GRID, marks, **options))) as picture:
        return np.asarray(picture.convert("RGB"))


def where(pixels, colour):
    """Rows and columns of a colour above the caption."""
    return np.argwhere((pixels[:SIDE_PIXELS] == colour).all(axis=2))


def test_each_outlined_slice_is_a_panel_up_to_the_number_asked_for():
    assert drawn([mark(0, 2)]).shape[1] == SIDE_PIXELS
    assert drawn([mark(0, 2, 3), mark(1, 4)]).shape[1] == 3 * SIDE_PIXELS
    assert drawn([mark(0, *range(8))], num_slices=3).shape[1] == 3 * SIDE_PIXELS


def test_an_outline_runs_through_its_voxels_in_its_readers_colour():
    pixels = drawn([mark(0, 2), mark(2, 3)])
    first, second = where(pixels, READER_COLOURS[0]), where(pixels, READER_COLOURS[2])
    # 22 mm are shown: columns 14 to 36 across the panel.
    scale = SIDE_PIXELS / 22
    assert first[:, 1].max() < SIDE_PIXELS <= second[:, 1].min()
    for axis in (0, 1):
        assert (first[:, axis].min(), first[:, axis].max()) == pytest.approx((6 * scale, 16 * scale), abs=2)


def test_voxels_lie_under_their_outline():
    pixels = drawn([mark(0, 2)])
    scale = SIDE_PIXELS / 22
    whites = where(pixels, (255, 255, 255))
    # The block's voxels reach half a voxel beyond the outline through the centres of its border.
    assert (whites[:, 0].min(), whites[:, 0].max()) == pytest.approx((5.5 * scale, 16.5 * scale), abs=2)


def test_the_ball_is_a_circle_where_it_cuts_the_slice():
    ball = Ball((25.0, 25.0, 4.0), 16.0)
    marks = [mark(0, 2, 7)]
    extra = (drawn(marks, ball=ball) != drawn(marks)).any(axis=2)
    rows, cols = np.nonzero(extra[:SIDE_PIXELS])
    # Slice 7 is 10 mm away.
    assert cols.max() < SIDE_PIXELS
    assert np.ptp(rows) == pytest.approx(16 * SIDE_PIXELS / 22, abs=2)
    assert np.ptp(cols) == pytest.approx(16 * SIDE_PIXELS / 22, abs=2)


def test_a_nodule_at_the_border_and_unknown_readers_are_drawn():
    pixels = drawn([mark(-1, 2, points=SQUARE - 18), mark(-1, 2, points=SQUARE - 17)])
    assert len(where(pixels, READER_COLOURS[0]))
    assert len(where(pixels, READER_COLOURS[1]))
    assert (pixels[0, :10] == 0).all()


def test_the_same_marks_give_the_same_bytes_and_synthetic_data_are_named():
    volume = np.zeros(GRID.size_irc, dtype=np.int16)
    first = contour_picture(volume, GRID, [mark(0, 2)], title="a")
    assert first == contour_picture(volume, GRID, [mark(0, 2)], title="a")
    assert first != contour_picture(volume, GRID, [mark(0, 2)], title="a", is_synthetic=True)


def test_marks_outside_of_the_ct_are_refused():
    with pytest.raises(ValueError, match="must lie in the CT to be drawn, got none of 1 marks"):
        drawn([mark(0, 40)])
