"""Picture of the lungs: an axial and a coronal section with the outline of the mask."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.lungs.mask import Lungs

WINDOW_HU = (-1200, 300)
OUTLINE_RGB = (255, 176, 0)
HEIGHT = 288
# Largest picture in one event of Dagster.
MAX_BYTES = 74_000
_FONT_SIZE, _LINE_HEIGHT, _MARGIN = 12, 18, 6
# Fewer greys make a smaller file; the outline keeps its colour.
_NUM_GREYS = (64, 32, 16, 8)
_BACKGROUND, _INK, _FAINT = 16, 230, 150


def lungs_png(hounsfield: NDArray[np.int16], grid: VoxelGrid, lungs: Lungs, *, is_synthetic: bool = False) -> bytes:
    """Draw the axial section with most lung and the coronal one through the middle of the lungs.

    The patient's right is on the left, front and head are at the top; mm are equally long in both directions.

    Args:
        hounsfield: HU, (I, R, C).
        grid: Its grid.
        lungs: The lungs of the CT.
        is_synthetic: Whether to label the data as synthetic.

    Returns:
        A PNG, below 74 kB.
    """
    view = AxialView(grid)
    hu, mask, (index_mm, row_mm, col_mm) = view.of(hounsfield), view.of(lungs.mask), view.grid.spacing_irc
    index = int(mask.sum(axis=(1, 2)).argmax())
    row = round(float((np.arange(mask.shape[1]) * mask.sum(axis=(0, 2))).sum() / mask.sum()))
    axial = _section(hu[index], mask[index], row_mm, col_mm)
    coronal = _section(hu[::-1, row], mask[::-1, row], index_mm, col_mm)
    volume = f"lungs {lungs.volume_ml:.0f} ml"
    note = "research use only, synthetic data" if is_synthetic else "research use only"
    return _sheet(
        [(axial, f"axial, slice {index + 1} of {len(hu)} from the feet"), (coronal, f"coronal, {volume}")], note
    )


def _section(
    hu: NDArray[np.int16], mask: NDArray[np.bool_], down_mm: float, across_mm: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a section's greys and its outline, both enlarged to the picture's height."""
    lower, upper = WINDOW_HU
    height, width = hu.shape
    size = (round(HEIGHT * width * across_mm / (height * down_mm)), HEIGHT)
    grey = (np.clip(hu.astype(np.float32), lower, upper) - lower) * (255 / (upper - lower))
    drawn = np.asarray(Image.fromarray(np.rint(grey).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR))
    # The mask is enlarged first: an outline of voxels would be wider along thick slices.
    shown = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) > 127
    return drawn, shown & ~ndimage.binary_erosion(shown, iterations=2)


def _sheet(sections: list[tuple[tuple[NDArray[np.uint8], NDArray[np.bool_]], str]], note: str) -> bytes:
    font = ImageFont.load_default(_FONT_SIZE)
    widths = [max(drawn.shape[1], int(font.getlength(caption)) + 1) for (drawn, _), caption in sections]
    height = HEIGHT + 2 * _LINE_HEIGHT + 2 * _MARGIN
    sheet = Image.new("L", (sum(widths) + _MARGIN * (len(widths) + 1), height), _BACKGROUND)
    outline = np.zeros((sheet.height, sheet.width), dtype=np.bool_)
    draw = ImageDraw.Draw(sheet)
    left = _MARGIN
    for ((drawn, line), caption), width in zip(sections, widths, strict=True):
        sheet.paste(Image.fromarray(drawn), (left, _MARGIN))
        outline[_MARGIN : _MARGIN + HEIGHT, left : left + drawn.shape[1]] = line
        draw.text((left, _MARGIN + HEIGHT + 2), caption, fill=_INK, font=font)
        left += width + _MARGIN
    draw.text((sheet.width - _MARGIN, height - 4), note, fill=_FAINT, font=font, anchor="rs")
    return _small_png(np.asarray(sheet), outline)


def _small_png(greys: NDArray[np.uint8], outline: NDArray[np.bool_]) -> bytes:
    png = b""
    for num_greys in _NUM_GREYS:
        step = 255 / (num_greys - 1)
        drawn = Image.fromarray(np.where(outline, num_greys, np.rint(greys / step)).astype(np.uint8), mode="P")
        drawn.putpalette([round(level * step) for level in range(num_greys) for _ in range(3)] + list(OUTLINE_RGB))
        buffer = io.BytesIO()
        drawn.save(buffer, "PNG", optimize=True)
        png = buffer.getvalue()
        if len(png) < MAX_BYTES:
            break
    return png
