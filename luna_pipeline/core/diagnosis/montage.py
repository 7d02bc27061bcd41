"""One picture of a diagnosis: its first nodules, and where they lie in a coronal overview of the chest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.ct.pictures import png_bytes, to_greys
from luna_pipeline.core.diagnosis.formatting import length, share
from luna_pipeline.core.diagnosis.pictures import HALO_COLOUR, MARK_COLOUR, PLANES, annotate, nodule_pictures
from luna_pipeline.core.diagnosis.result import Diagnosis, Nodule
from luna_pipeline.core.diagnosis.tables import INTENDED_USE, png_with_provenance

NUM_NODULES = 12
OVERVIEW_PX = 420
"""The longer side of the overview."""

NUM_GREYS = 96
"""Grey levels of the montage's palette; more make a larger file without a visible difference."""

_BARS_MM = (1, 2, 5, 10, 20, 50, 100, 200, 500)
# Lung to bone: metal and padding do not change the projection's contrast.
_PROJECTED_HU = (-1000, 500)
_TILE_PX, _COLUMNS, _MARGIN, _LINE_PX, _FONT_SIZE = 180, 4, 8, 18, 14
_BACKGROUND, _INK, _FAINT = (16, 16, 16), (235, 235, 235), (170, 170, 170)


def montage_png(diagnosis: Diagnosis, hounsfield: NDArray[np.int16], *, num_nodules: int = NUM_NODULES) -> bytes:
    """Return a picture of the first nodules with number, probability and diameter, beside a coronal overview.

    Args:
        diagnosis: The diagnosis.
        hounsfield: HU of its CT, (I, R, C), in the file's axes.
        num_nodules: Maximum number of nodules.

    Returns:
        A PNG with a palette; its text ``provenance`` is the JSON of models, recipe, input and runs.
    """
    shown = diagnosis.nodules[:num_nodules]
    overview = coronal_overview(diagnosis, hounsfield, shown)
    tiles = _tiles(shown, diagnosis, hounsfield)
    header, footer = _header(diagnosis, len(shown)), _footer(diagnosis)
    width = _fitting(2 * _MARGIN + overview.width + _MARGIN + tiles.width, header + footer)
    top = _MARGIN + len(header) * _LINE_PX + _MARGIN
    middle = top + max(overview.height, tiles.height) + _MARGIN
    sheet = Image.new("RGB", (width, middle + len(footer) * _LINE_PX + _MARGIN), _BACKGROUND)
    _write(sheet, header, _MARGIN, _INK)
    sheet.paste(overview, (_MARGIN, top))
    sheet.paste(tiles, (_MARGIN + overview.width + _MARGIN, top))
    _write(sheet, footer, middle, _FAINT)
    return _png(sheet, diagnosis)


def coronal_overview(diagnosis: Diagnosis, hounsfield: NDArray[np.int16], nodules: Sequence[Nodule]) -> Image.Image:
    """Return the mean over the chest from front to back, with a numbered circle for each nodule.

    Args:
        diagnosis: The diagnosis.
        hounsfield: HU of its CT, (I, R, C), in the file's axes.
        nodules: The first nodules of the diagnosis.

    Returns:
        An RGB picture with 420 pixels on its longer side, the patient's right on the left, the head above.
    """
    view = AxialView(diagnosis.grid)
    voxels, spacing_irc = view.of(hounsfield), view.grid.spacing_irc
    # Slice by slice, because clipping the whole CT would copy it.
    rows = [np.clip(slice_hu, *_PROJECTED_HU).mean(axis=0, dtype=np.float32) for slice_hu in voxels[::-1]]
    means = np.stack(rows)
    lower, upper = (round(float(value)) for value in np.percentile(means, (1, 99.5)))
    height_mm, width_mm = float(len(voxels) * spacing_irc[0]), float(voxels.shape[2] * spacing_irc[2])
    px_per_mm = OVERVIEW_PX / max(height_mm, width_mm)
    size = (max(round(width_mm * px_per_mm), 1), max(round(height_mm * px_per_mm), 1))
    greys = Image.fromarray(to_greys(means, (lower, max(upper, lower + 1))))
    picture = greys.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    bar_mm = max((mm for mm in _BARS_MM if mm * px_per_mm <= size[0] / 4), default=_BARS_MM[0])
    annotate(picture, PLANES["coronal"].letters, bar_px=max(round(bar_mm * px_per_mm), 1), bar_mm=bar_mm)
    for number, nodule in enumerate(nodules, start=1):
        index, _, col = view.grid.world_to_voxel(nodule.center_xyz)
        center = ((col + 0.5) * spacing_irc[2] * px_per_mm, size[1] - (index + 0.5) * spacing_irc[0] * px_per_mm)
        _mark(picture, center, max(nodule.diameter_mm / 2 * px_per_mm, 3) + 2, str(number))
    return picture


def _mark(picture: Image.Image, center: tuple[float, float], radius: float, text: str) -> None:
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT_SIZE)
    x, y = center
    # A dark line on both sides, because the yellow one is hard to see on white.
    draw.ellipse((x - radius - 1, y - radius - 1, x + radius + 1, y + radius + 1), outline=HALO_COLOUR, width=3)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=MARK_COLOUR, width=1)
    # Numbers of nodules near the right border stand on the left of the circle.
    side, anchor = (-1, "rm") if x + radius + 2 * _FONT_SIZE > picture.width else (1, "lm")
    place = (x + side * (radius + 2), min(max(y - radius, _FONT_SIZE / 2), picture.height - _FONT_SIZE / 2))
    draw.text(place, text, fill=MARK_COLOUR, font=font, anchor=anchor, stroke_width=2, stroke_fill="black")


def _tiles(nodules: Sequence[Nodule], diagnosis: Diagnosis, hounsfield: NDArray[np.int16]) -> Image.Image:
    """Return the axial pictures with a caption each."""
    columns, rows = min(len(nodules), _COLUMNS), -(-len(nodules) // _COLUMNS)
    width, height = _TILE_PX + _MARGIN, _TILE_PX + 2 * _LINE_PX + _MARGIN
    tiles = Image.new("RGB", (max(columns * width, 1), max(rows * height, 1)), _BACKGROUND)
    draw, font = ImageDraw.Draw(tiles), ImageFont.load_default(_FONT_SIZE)
    for place, nodule in enumerate(nodules):
        left, top = place % _COLUMNS * width, place // _COLUMNS * height
        picture = nodule_pictures(nodule, hounsfield, diagnosis.grid, size_px=_TILE_PX)["axial"]
        tiles.paste(picture, (left, top))
        lines = (f"{place + 1}: probability {share(nodule.probability)}", f"diameter {length(nodule.diameter_mm)} mm")
        for number, line in enumerate(lines):
            draw.text((left, top + _TILE_PX + 3 + number * _LINE_PX), line, fill=_INK, font=font)
    return tiles


def _header(diagnosis: Diagnosis, num_shown: int) -> list[str]:
    num_above = sum(nodule.probability >= diagnosis.threshold for nodule in diagnosis.nodules)
    found = f"{num_shown} of {len(diagnosis.nodules)} findings"
    above = f"{num_above} with probability {share(diagnosis.threshold)} or more"
    lines = [f"{found}, {above}" if diagnosis.nodules else "No findings"]
    return [*lines, "SYNTHETIC DATA: a phantom, no patient"] if diagnosis.is_synthetic else lines


def _footer(diagnosis: Diagnosis) -> list[str]:
    models = ", ".join(f"{model.name} {model.version}" for model in diagnosis.models)
    return [f"{INTENDED_USE}", f"{models}; recipe {diagnosis.recipe.name}", f"Series {diagnosis.series_instance_uid}"]


def _fitting(width: int, lines: Sequence[str]) -> int:
    font = ImageFont.load_default(_FONT_SIZE)
    return max(width, *(2 * _MARGIN + round(font.getlength(line)) + 1 for line in lines))


def _write(sheet: Image.Image, lines: Sequence[str], top: int, colour: tuple[int, int, int]) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, top + number * _LINE_PX), line, fill=colour, font=font)


def _png(sheet: Image.Image, diagnosis: Diagnosis) -> bytes:
    palette = Image.new("P", (1, 1))
    greys = np.rint(np.linspace(0, 255, NUM_GREYS)).astype(int).repeat(3)
    palette.putpalette([*greys.tolist(), *MARK_COLOUR])
    return png_with_provenance(png_bytes(sheet.quantize(palette=palette, dither=Image.Dither.NONE)), diagnosis)
