"""Pictures of a nodule: an axial, a coronal and a sagittal plane through it, with its outline and a scale."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, map_coordinates

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.ct.pictures import LUNG_WINDOW_HU, to_greys
from luna_pipeline.core.diagnosis.result import Nodule

FIELD_MM = 60.0
"""Width and height of a picture; doubled until the nodule fills at most two thirds."""

SIZE_PX = 300
"""Width and height of a picture: 5 pixels a mm."""

SCALE_BAR_PART = 6
"""The scale bar is this part of a picture: 10 mm of 60."""

MARK_COLOUR, HALO_COLOUR = (255, 214, 0), (40, 40, 40)
"""Outline, and a dark line outside it, without which it is hard to see on white."""

OUTSIDE_HU = -2000.0
_FONT_SIZE, _MARGIN_PX = 14, 6


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane through the axial view of a CT; the patient's right is on the left of axial and coronal pictures.

    Attributes:
        axis: Axis of the view (index, row, col: 0, 1, 2) that is perpendicular to the picture.
        down: Axis that runs down the picture, against its direction where ``is_upside_down``.
        across: Axis that runs to the right.
        is_upside_down: Whether the picture's top is the end of ``down``: the head is above.
        letters: Sides of the patient at the left, right, top and bottom.
    """

    axis: int
    down: int
    across: int
    is_upside_down: bool
    letters: tuple[str, str, str, str]


PLANES: Mapping[str, Plane] = {
    "axial": Plane(0, 1, 2, False, ("R", "L", "A", "P")),
    "coronal": Plane(1, 0, 2, True, ("R", "L", "H", "F")),
    "sagittal": Plane(2, 0, 1, True, ("A", "P", "H", "F")),
}


def nodule_pictures(
    nodule: Nodule,
    hounsfield: NDArray[np.int16],
    grid: VoxelGrid,
    *,
    window_hu: tuple[int, int] = LUNG_WINDOW_HU,
    size_px: int = SIZE_PX,
) -> dict[str, Image.Image]:
    """Return pictures of the planes of voxels through a nodule's centre, with equal mm a pixel in all directions.

    Args:
        nodule: The nodule, in the voxels of the CT.
        hounsfield: HU of the CT, (I, R, C), in any orientation.
        grid: The CT's grid.
        window_hu: HU of black and white.
        size_px: Width and height of a picture.

    Returns:
        RGB pictures by plane: axial, coronal, sagittal.
    """
    return plane_pictures(
        nodule.center_xyz,
        hounsfield,
        grid,
        nodule=nodule,
        field_mm=field_of_view(nodule, grid),
        window_hu=window_hu,
        size_px=size_px,
    )


def plane_pictures(
    center_xyz: tuple[float, float, float],
    hounsfield: NDArray[np.int16],
    grid: VoxelGrid,
    *,
    nodule: Nodule | None = None,
    field_mm: float = FIELD_MM,
    window_hu: tuple[int, int] = LUNG_WINDOW_HU,
    size_px: int = SIZE_PX,
) -> dict[str, Image.Image]:
    """Return pictures of the planes of voxels through a position, such as that of an annotated nodule.

    Args:
        center_xyz: World position in mm, the middle of each picture.
        hounsfield: HU of the CT, (I, R, C), in any orientation.
        grid: The CT's grid.
        nodule: A finding to outline; None for none.
        field_mm: Width and height of a picture.
        window_hu: HU of black and white.
        size_px: Width and height of a picture.

    Returns:
        RGB pictures by plane: axial, coronal, sagittal.
    """
    view = AxialView(grid)
    voxels, center_irc = view.of(hounsfield), view.grid.world_to_voxel(center_xyz)
    pictures = {}
    for name, plane in PLANES.items():
        down, across = _sampled(plane, center_irc, view.grid.spacing_irc, field_mm / size_px, size_px)
        at = int(np.clip(np.floor(center_irc[plane.axis] + 0.5), 0, voxels.shape[plane.axis] - 1))
        values = _interpolated(np.moveaxis(voxels, plane.axis, 0)[at], down, across)
        picture = Image.fromarray(to_greys(values, window_hu)).convert("RGB")
        if nodule is not None:
            mask, mask_start = view.of(nodule.mask), mask_start_in_view(nodule, view)
            _draw_outline(picture, _is_mask(mask, mask_start, plane, at, down, across))
        annotate(picture, plane.letters, bar_px=size_px // SCALE_BAR_PART, bar_mm=field_mm / SCALE_BAR_PART)
        pictures[name] = picture
    return pictures


def _draw_outline(picture: Image.Image, is_nodule: NDArray[np.bool_]) -> None:
    line = outline(is_nodule)
    picture.paste(HALO_COLOUR, mask=Image.fromarray(outline(is_nodule | line)))
    picture.paste(MARK_COLOUR, mask=Image.fromarray(line))


def field_of_view(nodule: Nodule, grid: VoxelGrid) -> float:
    """Return width and height of a nodule's pictures in mm: 60, or doubled until 1.5 times the nodule's box fits."""
    box_mm = max(float(size * mm) for size, mm in zip(nodule.mask.shape, grid.spacing_irc, strict=True))
    field_mm = FIELD_MM
    while field_mm < 1.5 * box_mm:
        field_mm *= 2
    return field_mm


def mask_start_in_view(nodule: Nodule, view: AxialView) -> tuple[int, int, int]:
    """Return the first voxel of a nodule's mask in the axial view: index, row, col."""
    index, row, col = (
        view.original.size_irc[axis] - nodule.mask_start_irc[axis] - nodule.mask.shape[axis]
        if is_flipped
        else nodule.mask_start_irc[axis]
        for axis, is_flipped in zip(view.axes, view.is_flipped, strict=True)
    )
    return index, row, col


def outline(is_inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels next to a region, outside it: the line hides nothing of the region."""
    return np.asarray(binary_dilation(is_inside) & ~is_inside)


def _sampled(
    plane: Plane, center_irc: NDArray[np.float64], spacing_irc: NDArray[np.float64], mm_per_px: float, size_px: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return voxel coordinates of the picture's rows and columns, the centre of mass in the picture's middle."""
    offsets_mm = (np.arange(size_px) - (size_px - 1) / 2) * mm_per_px
    sign = -1 if plane.is_upside_down else 1
    down = center_irc[plane.down] + sign * offsets_mm / spacing_irc[plane.down]
    return down, center_irc[plane.across] + offsets_mm / spacing_irc[plane.across]


def _interpolated(
    values: NDArray[np.int16], down: NDArray[np.float64], across: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the plane's HU at the picture's pixels, linear between voxels; half a voxel beyond the last is outside."""
    places = np.meshgrid(*(np.clip(axis, 0, size - 1) for axis, size in zip((down, across), values.shape, strict=True)))
    sampled = map_coordinates(values, [place.T for place in places], order=1, output=np.float32)
    is_inside = [(axis >= -0.5) & (axis < size - 0.5) for axis, size in zip((down, across), values.shape, strict=True)]
    return np.where(np.outer(*is_inside), sampled, np.float32(OUTSIDE_HU))


def _is_mask(
    mask: NDArray[np.bool_],
    start: tuple[int, int, int],
    plane: Plane,
    at: int,
    down: NDArray[np.float64],
    across: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return for each pixel whether its nearest voxel belongs to the nodule."""
    in_box = at - start[plane.axis]
    if not 0 <= in_box < mask.shape[plane.axis]:
        return np.zeros((len(down), len(across)), dtype=np.bool_)
    slice_mask = np.pad(np.moveaxis(mask, plane.axis, 0)[in_box], 1)
    rows = np.floor(down + 0.5).astype(int) - start[plane.down] + 1
    columns = np.floor(across + 0.5).astype(int) - start[plane.across] + 1
    last_row, last_column = (size - 1 for size in slice_mask.shape)
    return slice_mask[np.ix_(np.clip(rows, 0, last_row), np.clip(columns, 0, last_column))]


def annotate(picture: Image.Image, letters: tuple[str, str, str, str], *, bar_px: int, bar_mm: float) -> None:
    """Draw the sides of the patient (left, right, top, bottom) and a scale bar into a picture."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT_SIZE)
    right, bottom = picture.width - 1 - _MARGIN_PX, picture.height - 1 - _MARGIN_PX
    middle_x, middle_y = picture.width // 2, picture.height // 2
    places = (
        (_MARGIN_PX, middle_y, "lm"),
        (right, middle_y, "rm"),
        (middle_x, _MARGIN_PX, "mt"),
        (middle_x, bottom, "mb"),
    )
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        draw.text((x, y), letter, fill="white", font=font, anchor=anchor, stroke_width=2, stroke_fill="black")
    left, top = right - bar_px + 1, bottom - 3
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill="black")
    draw.rectangle((left, top, right, bottom), fill="white")
    place = ((left + right) // 2, top - 3)
    draw.text(place, f"{bar_mm:g} mm", fill="white", font=font, anchor="mb", stroke_width=2, stroke_fill="black")
