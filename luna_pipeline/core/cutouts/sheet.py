"""Cutouts as a picture: the middle slice of each, in the lung window, with a caption."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LUNG_WINDOW_HU = (-1000, 400)
_NOTE = "research use only"
_FONT_SIZE, _LINE_HEIGHT, _MARGIN = 12, 15, 6
_BACKGROUND, _INK, _FAINT = 16, 230, 150


def cutout_sheet(chunks: NDArray[np.int16], captions: Sequence[str], *, columns: int = 3, scale: int = 3) -> bytes:
    """Draw the middle slice of each cutout; rows run downwards as in the array, nothing is flipped.

    Args:
        chunks: HU, shape (N, I, R, C), N at least 1.
        captions: A text a cutout, broken into lines where it is too wide.
        columns: Cutouts side by side.
        scale: Pixels a voxel.

    Returns:
        A greyscale PNG.

    Raises:
        ValueError: If the number of captions differs, there is nothing to draw, or columns or scale is below
            1.
    """
    if chunks.ndim != 4 or len(chunks) == 0 or len(chunks) != len(captions):
        msg = f"A sheet must have a caption a cutout, got {chunks.shape} and {len(captions)} captions."
        raise ValueError(f"{msg} Hand over chunks (N, I, R, C) and N texts.")
    if columns < 1 or scale < 1:
        msg = f"Columns and scale must be at least 1, got {columns} and {scale}. Choose whole numbers from 1 on."
        raise ValueError(msg)
    font = ImageFont.load_default(_FONT_SIZE)
    height, width = chunks.shape[2] * scale, chunks.shape[3] * scale
    texts = [_wrapped(caption, width, font) for caption in captions]
    columns = min(columns, len(chunks))
    num_rows = -(-len(chunks) // columns)
    tile_width = width + _MARGIN
    tile_height = height + _MARGIN + _LINE_HEIGHT * max(len(text) for text in texts) + 2
    size = (_MARGIN + columns * tile_width, _MARGIN + num_rows * tile_height + _LINE_HEIGHT)
    sheet = Image.new("L", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (chunk, text) in enumerate(zip(chunks, texts, strict=True)):
        left = _MARGIN + number % columns * tile_width
        top = _MARGIN + number // columns * tile_height
        sheet.paste(_picture(chunk[len(chunk) // 2], (width, height)), (left, top))
        for line_number, line in enumerate(text):
            draw.text((left, top + height + 2 + line_number * _LINE_HEIGHT), line, fill=_INK, font=font)
    draw.text((size[0] - _MARGIN, size[1] - 4), _NOTE, fill=_FAINT, font=font, anchor="rs")
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _picture(slice_hu: NDArray[np.int16], size: tuple[int, int]) -> Image.Image:
    lower, upper = LUNG_WINDOW_HU
    grey = (np.clip(slice_hu.astype(np.float32), lower, upper) - lower) * (255 / (upper - lower))
    return Image.fromarray(np.rint(grey).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _wrapped(caption: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """Break a caption at blanks, and inside words that are wider than the picture (a series uid)."""
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
