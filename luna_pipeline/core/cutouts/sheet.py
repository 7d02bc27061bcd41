"""Pictures of cutouts: the middle slice of each in the lung window, with a caption."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from luna_pipeline.core.ct.pictures import png_bytes, to_greys

CUTOUT_WINDOW_HU = (-1000, 400)
# Largest picture in one event of Dagster.
MAX_BYTES = 74_000
_NOTE = "research use only"
_FONT_SIZE, _HEADING_SIZE, _LINE_HEIGHT, _MARGIN = 12, 14, 15, 6
_BACKGROUND, _INK, _FAINT = 16, 230, 150
# Fewer grey levels make a smaller file; down to 32 the difference is hardly visible.
_NUM_GREYS = (256, 64, 32, 16, 8)
_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True, eq=False, slots=True)
class Section:
    """Cutouts under a heading: ``chunks`` in HU, shape (N, I, R, C), N may be 0; one caption per cutout."""

    heading: str
    chunks: NDArray[np.int16]
    captions: Sequence[str]


def cutout_sheet(chunks: NDArray[np.int16], captions: Sequence[str], *, columns: int = 3, scale: int = 3) -> bytes:
    """Draw the middle slice of each cutout; rows run downwards as in the array, nothing is flipped.

    Args:
        chunks: HU, shape (N, I, R, C), N at least 1.
        captions: One text per cutout, wrapped if it is too wide.
        columns: Cutouts per row.
        scale: Pixels per voxel.

    Returns:
        A greyscale PNG.

    Raises:
        ValueError: If the number of captions differs, there is no cutout, or columns or scale is below 1.
    """
    _check(chunks, captions, columns=columns, scale=scale)
    return png_bytes(_stacked([_tiles(chunks, captions, columns=min(columns, len(chunks)), scale=scale)], note=_NOTE))


def cutout_strip(slices_hu: NDArray[np.int16]) -> bytes:
    """Draw slices beside each other, a pixel per voxel: 2 ms for six of a series that takes 50 ms or more to cut.

    Args:
        slices_hu: HU, shape (N, R, C), N at least 1.

    Returns:
        A greyscale PNG of about 7 kB for six slices of 48 x 48 voxels.
    """
    framed = np.pad(to_greys(slices_hu, CUTOUT_WINDOW_HU), ((0, 0), (1, 1), (1, 1)))
    buffer = io.BytesIO()
    # Compressing harder would take longer than everything else here.
    Image.fromarray(np.concatenate(list(framed), axis=1)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def sectioned_sheet(
    sections: Sequence[Section], *, columns: int = 6, scale: int = 2, is_synthetic: bool = False
) -> bytes:
    """Draw sections of cutouts below each other, each as ``cutout_sheet`` with a heading.

    Args:
        sections: The sections; one without cutouts shows "none".
        columns: Cutouts per row.
        scale: Pixels per voxel.
        is_synthetic: Whether to label the data as synthetic.

    Returns:
        A greyscale PNG below 74 kB (99 kB as base64), with as many grey levels as fit, at least 8.

    Raises:
        ValueError: If a section's number of captions differs, all sections are empty, or columns or scale is below 1.
    """
    if not any(len(section.chunks) for section in sections):
        msg = f"A sheet must show a cutout, got none in {len(sections)} sections. Hand over one that is not empty."
        raise ValueError(msg)
    tiles = [_section_tiles(section, columns=columns, scale=scale) for section in sections]
    width = max(picture.width for picture in tiles if picture is not None)
    parts = []
    for section, picture in zip(sections, tiles, strict=True):
        parts.append(_heading(section.heading if picture else f"{section.heading}: none", width))
        parts += [picture] if picture else []
    note = f"{_NOTE}, synthetic data" if is_synthetic else _NOTE
    return _as_small_png(_stacked(parts, note=note))


def _section_tiles(section: Section, *, columns: int, scale: int) -> Image.Image | None:
    if not len(section.chunks):
        return None
    _check(section.chunks, section.captions, columns=columns, scale=scale)
    return _tiles(section.chunks, section.captions, columns=columns, scale=scale)


def _check(chunks: NDArray[np.int16], captions: Sequence[str], *, columns: int, scale: int) -> None:
    if chunks.ndim != 4 or len(chunks) == 0 or len(chunks) != len(captions):
        msg = f"A sheet must have a caption a cutout, got {chunks.shape} and {len(captions)} captions."
        raise ValueError(f"{msg} Hand over chunks (N, I, R, C) and N texts.")
    if columns < 1 or scale < 1:
        msg = f"Columns and scale must be at least 1, got {columns} and {scale}. Choose whole numbers from 1 on."
        raise ValueError(msg)


def _tiles(chunks: NDArray[np.int16], captions: Sequence[str], *, columns: int, scale: int) -> Image.Image:
    """Return the cutouts with their captions, and a margin above and to the left."""
    font = ImageFont.load_default(_FONT_SIZE)
    height, width = chunks.shape[2] * scale, chunks.shape[3] * scale
    texts = [_wrapped(caption, width, font) for caption in captions]
    num_rows = -(-len(chunks) // columns)
    tile_width = width + _MARGIN
    tile_height = height + _MARGIN + _LINE_HEIGHT * max(len(text) for text in texts) + 2
    tiles = Image.new("L", (_MARGIN + columns * tile_width, _MARGIN + num_rows * tile_height), _BACKGROUND)
    draw = ImageDraw.Draw(tiles)
    for number, (chunk, text) in enumerate(zip(chunks, texts, strict=True)):
        left = _MARGIN + number % columns * tile_width
        top = _MARGIN + number // columns * tile_height
        tiles.paste(_picture(chunk[len(chunk) // 2], (width, height)), (left, top))
        for line_number, line in enumerate(text):
            draw.text((left, top + height + 2 + line_number * _LINE_HEIGHT), line, fill=_INK, font=font)
    return tiles


def _heading(text: str, width: int) -> Image.Image:
    font = ImageFont.load_default(_HEADING_SIZE)
    lines = _wrapped(text, width - 2 * _MARGIN, font)
    line_height = _HEADING_SIZE + 4
    heading = Image.new("L", (width, _MARGIN + line_height * len(lines)), _BACKGROUND)
    for number, line in enumerate(lines):
        ImageDraw.Draw(heading).text((_MARGIN, _MARGIN + number * line_height), line, fill=255, font=font)
    return heading


def _stacked(parts: Sequence[Image.Image], *, note: str) -> Image.Image:
    """Return the pictures below each other, with a note at the bottom."""
    size = (max(part.width for part in parts), sum(part.height for part in parts) + _LINE_HEIGHT)
    sheet = Image.new("L", size, _BACKGROUND)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(sheet).text((size[0] - _MARGIN, size[1] - 4), note, fill=_FAINT, font=font, anchor="rs")
    return sheet


def _as_small_png(sheet: Image.Image) -> bytes:
    png = b""
    for num_greys in _NUM_GREYS:
        step = 255 / (num_greys - 1)
        png = png_bytes(sheet.point([round(round(grey / step) * step) for grey in range(256)]))
        if len(png) < MAX_BYTES:
            break
    return png


def _picture(slice_hu: NDArray[np.int16], size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(to_greys(slice_hu, CUTOUT_WINDOW_HU)).resize(size, Image.Resampling.BICUBIC)


def _wrapped(caption: str, width: int, font: _Font) -> list[str]:
    """Wrap a caption at spaces, and within words that are wider than the picture (a series uid)."""
    lines = []
    for paragraph in caption.split("\n"):
        line = ""
        for word in paragraph.split():
            rest = word
            if line and font.getlength(f"{line} {rest}") <= width:
                line = f"{line} {rest}"
                continue
            if line:
                lines.append(line)
            while font.getlength(rest) > width and len(rest) > 1:
                fits = next(n for n in range(len(rest) - 1, 0, -1) if n == 1 or font.getlength(rest[:n]) <= width)
                lines.append(rest[:fits])
                rest = rest[fits:]
            line = rest
        lines.append(line)
    return lines
