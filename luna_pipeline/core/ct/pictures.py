"""HU as grey pictures: the one conversion for all sheets and reports."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LUNG_WINDOW_HU = (-1350, 150)
"""Black and white of the usual lung window: level -600, width 1500."""

SOFT_TISSUE_WINDOW_HU = (-160, 240)
"""Black and white of the usual soft-tissue window: level 40, width 400."""


def to_greys(hounsfield: NDArray[np.generic], window_hu: tuple[int, int]) -> NDArray[np.uint8]:
    """Return HU of any shape as grey levels: 0 at and below the lower end of the window, 255 at and above the upper."""
    lower, upper = window_hu
    greys: NDArray[np.float32] = (np.clip(hounsfield.astype(np.float32), lower, upper) - lower) * (
        255 / (upper - lower)
    )
    return np.asarray(np.rint(greys), dtype=np.uint8)


def png_bytes(picture: Image.Image) -> bytes:
    """Return a picture as a PNG; the same bytes for the same pixels."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
