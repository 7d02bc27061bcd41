"""Pictures of nodules: outline, scale and sides of the patient at known pixels, in any orientation."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.pictures import SOFT_TISSUE_WINDOW_HU
from luna_pipeline.core.diagnosis.pictures import (
    HALO_COLOUR,
    MARK_COLOUR,
    PLANES,
    field_of_view,
    nodule_pictures,
    plane_pictures,
)
from luna_pipeline.core.diagnosis.result import Nodule
from luna_pipeline_tests.core.diagnosis.examples import grid, nodule

AXES = [(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]


def with_axes(
    hounsfield: np.ndarray, of: VoxelGrid, found: Nodule, axes: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[np.ndarray, VoxelGrid, Nodule]:
    """The same CT and nodule, stored with other axes."""
    index = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    sizes = [of.size_irc[axis] for axis in axes]
    first_irc = np.zeros(3)
    for axis, flip, size in zip(axes, flips, sizes, strict=True):
        first_irc[axis] = size - 1 if flip else 0
    world = np.asarray(of.direction).reshape(3, 3).T[::-1][list(axes)] * np.where(flips, -1, 1)[:, None]
    other = VoxelGrid(
        size_irc=tuple(sizes),
        spacing_mm=tuple(of.spacing_irc[list(axes)][::-1]),
        origin_xyz=tuple(of.voxel_to_world(first_irc)),
        direction=tuple(world[::-1].T.ravel()),
    )
    starts = [found.mask_start_irc[axis] for axis in axes]
    mask = found.mask.transpose(axes)[index]
    moved = replace(
        found,
        center_irc=tuple(int(value) for value in other.nearest_voxel(found.center_xyz)),
        mask=mask,
        mask_start_irc=tuple(
            size - start - width if flip else start
            for size, start, width, flip in zip(sizes, starts, mask.shape, flips, strict=True)
        ),
    )
    return hounsfield.transpose(axes)[index], other, moved


def pixels(found: Nodule, hounsfield: np.ndarray, of: VoxelGrid, **options) -> dict[str, np.ndarray]:
    return {name: np.asarray(picture) for name, picture in nodule_pictures(found, hounsfield, of, **options).items()}


def empty_ct() -> np.ndarray:
    return np.full((40, 64, 64), -1400, dtype=np.int16)


def is_marked(picture: np.ndarray) -> np.ndarray:
    return (picture == MARK_COLOUR).all(axis=-1)


@pytest.mark.parametrize(
    ("plane", "rows", "columns"),
    # 5 pixels a mm; the box has 3 slices of 2 mm and 5 voxels of 1 mm, its centre is at pixel 149.5.
    [("axial", (137, 161), (137, 161)), ("coronal", (135, 164), (137, 161)), ("sagittal", (135, 164), (137, 161))],
)
def test_the_outline_is_the_line_of_pixels_around_the_mask(plane, rows, columns):
    marked = is_marked(pixels(nodule(), empty_ct(), grid())[plane])
    expected = np.zeros_like(marked)
    expected[[rows[0] - 1, rows[1] + 1], columns[0] : columns[1] + 1] = True
    expected[rows[0] : rows[1] + 1, [columns[0] - 1, columns[1] + 1]] = True
    assert np.array_equal(marked, expected)


def test_the_scale_bar_is_as_long_as_it_says():
    hounsfield = empty_ct()
    hounsfield[20, 32, 32 - 10] = hounsfield[20, 32, 32 + 10] = 3000
    picture = pixels(nodule(mask=np.zeros((1, 1, 1), dtype=bool)), hounsfield, grid())["axial"]
    bright = np.flatnonzero(picture[150, 20:-20].min(axis=-1) > 250) + 20
    left, right = bright[bright < 150].mean(), bright[bright > 150].mean()
    assert right - left == pytest.approx(20 * 5)
    bar = (picture == 255).all(axis=-1)[291, 200:]
    assert (np.flatnonzero(bar) + 200).tolist() == list(range(244, 294))


@pytest.mark.parametrize("size_px", [180, 300])
def test_mm_are_equal_in_all_directions(size_px):
    """A ball of 20 mm in voxels of 2 × 1 × 1 mm is a circle in each plane."""
    of = grid()
    world = of.voxel_to_world(np.stack(np.indices(of.size_irc), axis=-1))
    ball = np.linalg.norm(world - of.voxel_to_world((20, 32, 32)), axis=-1) <= 10
    found = nodule(mask=ball[15:26, 22:43, 22:43], mask_start_irc=(15, 22, 22))
    for picture in pixels(found, empty_ct(), of, size_px=size_px).values():
        places = np.argwhere(is_marked(picture))
        height, width = places.max(axis=0) - places.min(axis=0) - 1
        assert height == pytest.approx(20 * size_px / 60, abs=2 * size_px / 60)
        assert width == pytest.approx(20 * size_px / 60, abs=2 * size_px / 60)


def test_the_patients_left_is_right_the_back_below_and_the_head_above():
    """Voxels of the identity direction run to the left, the back and the head."""
    hounsfield, middle = empty_ct(), (20, 32, 32)
    for axis, step in ((0, 8), (1, 16), (2, 16)):
        place = list(middle)
        place[axis] += step
        hounsfield[tuple(slice(value - 1, value + 2) for value in place)] = 3000
    shown = pixels(nodule(middle), hounsfield, grid())
    corner = {name: picture[20:-20, 20:-20].min(axis=-1) > 250 for name, picture in shown.items()}
    centers = {name: [tuple(place) for place in np.argwhere(bright)] for name, bright in corner.items()}
    towards = {"down": (130 + 80, 130), "right": (130, 130 + 80), "up": (130 - 80, 130)}
    for name, ways in {"axial": ("right", "down"), "coronal": ("right", "up"), "sagittal": ("right", "up")}.items():
        assert {way for way, place in towards.items() if place in centers[name]} == set(ways), name
    assert PLANES["axial"].letters == (*PLANES["coronal"].letters[:2], "A", "P") == ("R", "L", "A", "P")
    assert PLANES["sagittal"].letters == ("A", "P", *PLANES["coronal"].letters[2:]) == ("A", "P", "H", "F")


@pytest.mark.parametrize(("axes", "flips"), AXES)
def test_a_ct_with_other_axes_has_the_same_pictures(axes, flips):
    hounsfield = np.random.default_rng(0).integers(-1400, 200, (40, 64, 64)).astype(np.int16)
    mask = np.zeros((4, 5, 7), dtype=bool)
    mask[1:, 2:, 3:] = mask[0, 0, 0] = True
    # Not halfway between voxels, where rounding decides.
    found = nodule((18, 30, 35), mask=mask, mask_start_irc=(16, 28, 31), center_xyz=(5.2, 10.3, 46.4))
    expected = pixels(found, hounsfield, grid(), size_px=120)
    moved_hounsfield, moved_grid, moved = with_axes(hounsfield, grid(), found, axes, flips)
    for name, picture in pixels(moved, moved_hounsfield, moved_grid, size_px=120).items():
        assert np.abs(picture.astype(int) - expected[name]).max() <= 1, name


def test_a_large_nodule_gets_a_larger_field_with_a_longer_bar():
    large = nodule(radius_irc=(12, 25, 25))
    assert (field_of_view(nodule(), grid()), field_of_view(large, grid())) == (60, 120)
    marked = is_marked(pixels(large, empty_ct(), grid())["axial"])
    # 51 mm at 2.5 pixels a mm: 128 pixels and a line on each side.
    assert np.ptp(np.argwhere(marked), axis=0).tolist() == [129, 129]


def test_what_lies_outside_the_ct_is_black_and_the_outermost_voxels_are_shown():
    hounsfield = np.full((1, 64, 64), 3000, dtype=np.int16)
    of = replace(grid(), size_irc=(1, 64, 64))
    shown = pixels(nodule((0, 0, 0), (0, 0, 0)), hounsfield, of)
    # Half a voxel before the first centre: 0.5 mm in the slice, 1 mm across slices.
    assert (shown["axial"][200, 100:200, 0] == 255).argmax() + 100 == 147
    assert (shown["axial"][200, :130] == 0).all()
    coronal = shown["coronal"][:, 200, 0] == 255
    assert coronal.sum() == 10


def test_a_window_of_soft_tissue_can_be_chosen():
    hounsfield = np.full((40, 64, 64), 40, dtype=np.int16)
    soft = pixels(nodule(), hounsfield, grid(), window_hu=SOFT_TISSUE_WINDOW_HU)["axial"]
    assert (soft[200, 100], pixels(nodule(), hounsfield, grid())["axial"][200, 100][0]) == (pytest.approx(128), 236)


def test_planes_through_a_position_are_those_of_a_nodule_there_without_its_outline():
    hounsfield, found = empty_ct(), nodule()
    hounsfield[found.center_irc] = 100
    plain = plane_pictures(found.center_xyz, hounsfield, grid(), field_mm=field_of_view(found, grid()))
    for name, picture in pixels(found, hounsfield, grid()).items():
        is_line = is_marked(picture) | (picture == HALO_COLOUR).all(axis=-1)
        assert is_line.any()
        np.testing.assert_array_equal(np.asarray(plain[name])[~is_line], picture[~is_line])
        assert not is_marked(np.asarray(plain[name])).any()
