"""Pictures of readers' outlines over the slices of a CT. Research use only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.pictures import LUNG_WINDOW_HU, png_bytes, to_greys
from luna_pipeline.core.sources.contours import slices_at
from luna_pipeline.core.sources.reader_marks import ReaderMark

SIDE_PIXELS = 240
"""Width and height of a slice in the picture."""
MARGIN_MM = 6.0
# Colours of Okabe and Ito, which colour-blind people can tell apart.
READER_COLOURS = ((0, 158, 255), (230, 120, 0), (0, 200, 140), (230, 130, 190), (240, 228, 66))
_BALL_COLOUR, _TEXT_COLOUR = (255, 255, 255), (220, 220, 220)
_LINE_PIXELS = 16


@dataclass(frozen=True)
class Ball:
    """The reference: centre in world LPS mm, and diameter in mm."""

    center_xyz: tuple[float, float, float]
    diameter_mm: float


def contour_picture(
    hounsfield: NDArray[np.int16],
    grid: VoxelGrid,
    marks: Sequence[ReaderMark],
    *,
    ball: Ball | None = None,
    title: str = "",
    num_slices: int = 4,
    is_synthetic: bool = False,
) -> bytes:
    """Draw the outlines of one nodule, a colour per reader, over slices through it, side by side.

    Args:
        hounsfield: HU of the CT, shape (I, R, C).
        grid: Its voxels.
        marks: The readers' marks of the nodule, at least one with an outline in the CT.
        ball: Reference nodule, drawn as a white circle.
        title: First line of the caption; no patient's name or id.
        num_slices: Slices at most, evenly spaced, the first and last outlined ones among them.
        is_synthetic: Whether to label the data as synthetic.

    Returns:
        A PNG; exclusions have thin lines.

    Raises:
        ValueError: If no outline lies in the CT.
    """
    placed = [
        (number, int(index), contour)
        for number, mark in enumerate(marks)
        for contour, index in zip(
            mark.contours, slices_at([it.z_mm for it in mark.contours], grid).tolist(), strict=True
        )
        if index >= 0
    ]
    if not placed:
        msg = f"An outline must lie in the CT to be drawn, got none of {len(marks)} marks. Check the series."
        raise ValueError(msg)
    points_rc = np.concatenate([contour.points_cr[:, ::-1] for _, _, contour in placed])
    view = _View.around(points_rc, grid)
    outlined = sorted({index for _, index, _ in placed})
    chosen = [outlined[place] for place in np.unique(np.linspace(0, len(outlined) - 1, num_slices).round().astype(int))]
    height = SIDE_PIXELS + 3 * _LINE_PIXELS
    picture = Image.new("RGB", (SIDE_PIXELS * len(chosen), height))
    drawing = ImageDraw.Draw(picture)
    for place, index in enumerate(chosen):
        left = place * SIDE_PIXELS
        panel = view.panel(hounsfield[index])
        pen = ImageDraw.Draw(panel)
        for number, own, contour in placed:
            if own == index:
                colour = READER_COLOURS[marks[number].reader % 4 if marks[number].reader >= 0 else number % 5]
                points = [*view.on_panel(contour.points_cr[:, ::-1]), *view.on_panel(contour.points_cr[:1, ::-1])]
                pen.line(points, fill=colour, width=2 if contour.is_inclusion else 1)
        _draw_ball(pen, view, ball, grid, index)
        picture.paste(panel, (left, 0))
        drawing.text((left + 4, SIDE_PIXELS + 1), f"slice {index}", fill=_TEXT_COLOUR)
    _draw_captions(drawing, marks, title, is_synthetic=is_synthetic)
    return png_bytes(picture)


@dataclass(frozen=True)
class _View:
    """The square of a slice that is shown, and its scale."""

    start_rc: tuple[float, float]
    spacing_rc: tuple[float, float]
    pixels_per_mm: float

    @classmethod
    def around(cls, points_rc: NDArray[np.int64], grid: VoxelGrid) -> "_View":
        spacing = grid.spacing_irc[1:]
        low_mm, high_mm = points_rc.min(axis=0) * spacing - MARGIN_MM, points_rc.max(axis=0) * spacing + MARGIN_MM
        side_mm = float((high_mm - low_mm).max())
        start = ((low_mm + high_mm) / 2 - side_mm / 2) / spacing
        return cls((start[0], start[1]), (float(spacing[0]), float(spacing[1])), SIDE_PIXELS / side_mm)

    def panel(self, image_hu: NDArray[np.int16]) -> Image.Image:
        """Return the square of a slice, voxels as they are: no smoothing; black outside of the CT."""
        pixel_mm = (np.arange(SIDE_PIXELS) + 0.5) / self.pixels_per_mm
        places = [np.rint(self.start_rc[axis] + pixel_mm / self.spacing_rc[axis]).astype(int) for axis in (0, 1)]
        is_in = [(place >= 0) & (place < size) for place, size in zip(places, image_hu.shape, strict=True)]
        greys = to_greys(
            image_hu[np.ix_(*(np.where(ok, at, 0) for ok, at in zip(is_in, places, strict=True)))], LUNG_WINDOW_HU
        )
        greys[~(is_in[0][:, None] & is_in[1])] = 0
        return Image.fromarray(greys).convert("RGB")

    def on_panel(self, points_rc: NDArray[np.int64] | NDArray[np.float64]) -> list[tuple[float, float]]:
        """Return x and y in the panel of voxels' centres."""
        x, y = (
            (points_rc[:, axis] - self.start_rc[axis]) * self.spacing_rc[axis] * self.pixels_per_mm for axis in (1, 0)
        )
        return list(zip(x.tolist(), y.tolist(), strict=True))


def _draw_ball(pen: ImageDraw.ImageDraw, view: _View, ball: Ball | None, grid: VoxelGrid, index: int) -> None:
    if ball is None:
        return
    middle = grid.world_to_voxel(ball.center_xyz)
    away_mm = float((index - middle[0]) * grid.spacing_irc[0])
    rest_mm2 = (ball.diameter_mm / 2) ** 2 - away_mm**2
    if rest_mm2 > 0:
        ((x, y),) = view.on_panel(middle[None, 1:])
        reach = rest_mm2**0.5 * view.pixels_per_mm
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), outline=_BALL_COLOUR)


def _draw_captions(
    drawing: ImageDraw.ImageDraw, marks: Sequence[ReaderMark], title: str, *, is_synthetic: bool
) -> None:
    drawing.text((4, SIDE_PIXELS + _LINE_PIXELS), title, fill=_TEXT_COLOUR)
    note = "research use only, synthetic data" if is_synthetic else "research use only"
    drawing.text((4, SIDE_PIXELS + 2 * _LINE_PIXELS), note, fill=_TEXT_COLOUR)
    left = 4 + int(drawing.textlength(note)) + 16
    for number, mark in enumerate(marks):
        is_known = mark.reader >= 0
        text = f"reader {mark.reader + 1}" if is_known else f"mark {number + 1}"
        colour = READER_COLOURS[mark.reader % 4 if is_known else number % 5]
        drawing.text((left, SIDE_PIXELS + 2 * _LINE_PIXELS), text, fill=colour)
        left += int(drawing.textlength(text)) + 10
