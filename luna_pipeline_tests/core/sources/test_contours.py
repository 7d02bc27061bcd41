"""Masks of outlines: by hand, and against matplotlib's polygons."""

import math

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.sources.contours import (
    NoduleMask,
    ball_mask,
    consensus_mask,
    dice,
    mask_of_contours,
    measure,
    slices_at,
)
from luna_pipeline.core.sources.reader_marks import Contour

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = VoxelGrid((6, 40, 50), (0.5, 0.5, 2.0), (-10.0, 20.0, -100.0), AXIAL)


def square(first, last, *, z_mm=-96.0, is_inclusion=True):
    """Outline of a square through the columns and rows ``first`` and ``last``, corner by corner."""
    points = [(first, first), (last, first), (last, last), (first, last)]
    return Contour(z_mm, is_inclusion, np.array(points))


def picture(mask):
    """The slice of a mask as text, a row a word."""
    return [" ".join("".join("#" if inside else "." for inside in row) for row in image) for image in mask.is_inside]


def is_on_edge(points, pixels):
    """Whether pixels lie on an edge of a polygon, by whole numbers alone."""
    start, end = points, np.roll(points, -1, axis=0)
    on_edge = np.zeros(len(pixels), dtype=bool)
    for (row_a, col_a), (row_b, col_b) in zip(start, end, strict=True):
        cross = (row_b - row_a) * (pixels[:, 1] - col_a) - (col_b - col_a) * (pixels[:, 0] - row_a)
        dot = (pixels[:, 0] - row_a) * (pixels[:, 0] - row_b) + (pixels[:, 1] - col_a) * (pixels[:, 1] - col_b)
        on_edge |= (cross == 0) & (dot <= 0)
    return on_edge


@pytest.mark.parametrize("seed", range(40))
def test_a_polygon_is_filled_as_by_matplotlib_without_its_border(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, size=int(rng.integers(5, 40))))
    around = rng.uniform(2, 14, size=len(angles))[:, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    points = np.rint(around + np.array([15, 18])).astype(np.int64)[:: 1 if seed % 2 else -1]
    pixels = np.argwhere(np.ones((31, 37), dtype=bool))
    on_edge = is_on_edge(points, pixels)
    expected = {tuple(pixel) for pixel in pixels[Polygon(points).contains_points(pixels) & ~on_edge].tolist()}
    mask = mask_of_contours([Contour(-96.0, True, points[:, ::-1])], GRID)
    assert expected
    assert {(row, col) for _, row, col in (np.argwhere(mask.is_inside) + mask.offset_irc).tolist()} == expected


def test_points_of_an_outline_are_outside():
    mask = mask_of_contours([square(10, 14)], GRID)
    assert picture(mask) == ["..... .###. .###. .###. ....."]
    assert mask.offset_irc == (2, 10, 10)


def test_an_outline_pixel_by_pixel_gives_the_same_as_its_corners():
    ring = [(10, 11), (11, 10), (12, 10), (13, 11), (13, 12), (12, 13), (11, 13), (10, 12)]
    assert picture(mask_of_contours([Contour(-96.0, True, np.array(ring))], GRID)) == [".... .##. .##. ...."]


def test_columns_come_first_in_an_outline():
    wide = Contour(-96.0, True, np.array([(10, 20), (16, 20), (16, 23), (10, 23)]))
    mask = mask_of_contours([wide], GRID)
    assert mask.offset_irc == (2, 20, 10)
    assert picture(mask) == ["....... .#####. .#####. ......."]


def test_an_exclusion_removes_the_voxels_within_it_in_any_order():
    hole = square(13, 15, is_inclusion=False)
    # Its own points are not nodule either.
    expected = ["......... .#######. .#######. .##...##. .##...##. .##...##. .#######. .#######. ........."]
    assert picture(mask_of_contours([square(10, 18), hole], GRID)) == expected
    assert picture(mask_of_contours([hole, square(10, 18)], GRID)) == expected


def test_two_outlines_of_a_slice_are_added_up():
    mask = mask_of_contours([square(10, 12), square(14, 16)], GRID)
    assert picture(mask) == ["....... .#..... ....... ....... ....... .....#. ......."]


def test_a_stem_that_runs_there_and_back_encloses_nothing():
    stem = np.array([(10, 10), (14, 10), (14, 12), (20, 12), (14, 12), (14, 14), (10, 14)])
    mask = mask_of_contours([Contour(-96.0, True, stem)], GRID)
    assert picture(mask) == ["........... .###....... .###....... .###....... ..........."]


def test_outlines_of_one_and_two_points_enclose_no_voxel():
    one, two = (Contour(-98.0, True, np.array(points)) for points in ([(12, 12)], [(11, 12), (15, 12)]))
    mask = mask_of_contours([one, two, square(10, 14)], GRID)
    assert (mask.num_voxels, mask.is_points) == (9, False)
    assert not mask.is_inside[0].any()


@pytest.mark.parametrize("points", [[(12, 13)], [(12, 13), (14, 15)]])
def test_a_nodule_of_points_alone_is_their_voxels(points):
    mask = mask_of_contours([Contour(-96.0, True, np.array(points))], GRID)
    assert mask.is_points
    voxels = {tuple(voxel) for voxel in (np.argwhere(mask.is_inside) + mask.offset_irc).tolist()}
    assert voxels == {(2, row, col) for col, row in points}


def test_an_outline_lies_in_the_nearest_slice_within_half_a_step():
    z_mm = [-100.0, -99.02, -98.98, -90.4, -101.0, -101.1, -88.9]
    assert slices_at(z_mm, GRID).tolist() == [0, 0, 1, 5, 0, -1, -1]


def test_outlines_without_a_slice_are_counted_and_left_out():
    mask = mask_of_contours([square(10, 14), square(10, 14, z_mm=-80.0)], GRID)
    assert (mask.num_voxels, mask.num_without_slice) == (9, 1)
    assert mask_of_contours([square(10, 14, z_mm=-80.0)], GRID) is None


def test_a_descending_or_oblique_ct_is_found_by_the_z_of_its_slices():
    turned = (0.0, -1.0, 0.0, math.cos(0.2), 0.0, -math.sin(0.2), -math.sin(0.2), 0.0, -math.cos(0.2))
    grid = VoxelGrid((6, 40, 50), (0.5, 0.5, 2.0), (-10.0, 20.0, -100.0), turned)
    z_mm = [float(grid.voxel_to_world((index, 0, 0))[2]) for index in range(6)]
    assert slices_at(np.array(z_mm) + 0.3, grid).tolist() == [0, 1, 2, 3, 4, 5]


def test_what_lies_outside_the_image_is_cut_off():
    mask = mask_of_contours([square(-3, 3)], GRID)
    assert mask.offset_irc == (2, 0, 0)
    assert picture(mask) == ["###. ###. ###. ...."]
    assert mask_of_contours([square(60, 70)], GRID) is None


def test_a_consensus_counts_at_least_the_share_of_the_readers():
    masks = [mask_of_contours([square(10, last)], GRID) for last in (14, 16, 18, 20)]
    sizes = [consensus_mask(masks, share=share).num_voxels for share in (0.25, 0.5, 0.75, 1.0)]
    assert sizes == [81, 49, 25, 9]
    assert consensus_mask(masks[:2]).num_voxels == 25
    assert consensus_mask(masks[:2], num_readers=4).num_voxels == 9
    assert consensus_mask(masks[:3], share=0.75, num_readers=4).num_voxels == 9


def test_a_consensus_joins_boxes_in_different_places():
    masks = [mask_of_contours([square(10, 14, z_mm=z_mm)], GRID) for z_mm in (-98.0, -94.0)]
    both = consensus_mask(masks, share=0.5)
    assert (both.offset_irc, both.is_inside.shape, both.num_voxels) == ((1, 10, 10), (3, 5, 5), 18)


def test_measures_of_a_block_by_hand():
    contours = [square(10, 14, z_mm=z_mm) for z_mm in (-98.0, -96.0)]
    size = measure(mask_of_contours(contours, GRID), GRID)
    # 18 voxels of 0.5 mm3, between columns and rows 11 and 13, slices 1 and 2.
    assert size.volume_mm3 == pytest.approx(9.0)
    assert size.center_xyz == pytest.approx((-10 + 12 * 0.5, 20 + 12 * 0.5, -97.0))
    assert size.diameter_mm == pytest.approx((54 / math.pi) ** (1 / 3))
    assert size.longest_axial_mm == pytest.approx(math.hypot(1.0, 1.0) + 0.5)


def test_the_longest_axis_is_that_of_one_slice_and_a_disc_has_its_diameter():
    ball = ball_mask((2.0, 30.0, -95.0), 9.0, GRID)
    size = measure(ball, GRID)
    assert size.center_xyz == pytest.approx((2.0, 30.0, -95.0), abs=1e-6)
    assert size.diameter_mm == pytest.approx(9.0, abs=0.3)
    assert size.longest_axial_mm == pytest.approx(9.0, abs=0.5)


def test_dice_of_masks_by_hand():
    first, second = (mask_of_contours([square(*ends)], GRID) for ends in ((10, 14), (11, 15)))
    assert dice(first, second) == pytest.approx(2 * 4 / 18)
    assert dice(first, first) == 1.0
    nothing = NoduleMask(np.zeros((1, 2, 2), dtype=bool), (0, 0, 0))
    assert dice(nothing, nothing) == 0.0
