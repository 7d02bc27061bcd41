"""A picture of validated slices with the true and the predicted outlines of their nodules."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ScalarT = TypeVar("ScalarT", bound=np.generic)
MAX_SLICES = 8
_COLUMNS, _SCALE, _GAP = 4, 3, 4
# A window for lung and soft tissue.
_WINDOW_HU = (-1200.0, 400.0)
# Colour-blind safe: bluish green and vermilion.
TRUE_COLOUR, PREDICTED_COLOUR = (0, 158, 115), (213, 94, 0)


@dataclass(frozen=True, eq=False)
class MaskSlice:
    """A slice in HU, float32 (H, W), with its true and its predicted mask, bool (H, W)."""

    hounsfield: NDArray[np.float32]
    true: NDArray[np.bool_]
    predicted: NDArray[np.bool_]


def mask_picture(slices: list[MaskSlice]) -> NDArray[np.uint8]:
    """Return the slices, three pixels a voxel, in rows of four: true outlines green, predicted ones orange.

    Returns:
        uint8 (H, W, 3).
    """
    drawn = [_drawn(each) for each in slices]
    height, width, _ = drawn[0].shape
    num_rows, num_columns = -(-len(drawn) // _COLUMNS), min(len(drawn), _COLUMNS)
    sheet = np.zeros((num_rows * (height + _GAP) - _GAP, num_columns * (width + _GAP) - _GAP, 3), dtype=np.uint8)
    for number, picture in enumerate(drawn):
        row, column = number // _COLUMNS * (height + _GAP), number % _COLUMNS * (width + _GAP)
        sheet[row : row + height, column : column + width] = picture
    return sheet


def _drawn(each: MaskSlice) -> NDArray[np.uint8]:
    low, high = _WINDOW_HU
    grey = (255 * np.clip((each.hounsfield - low) / (high - low), 0, 1)).astype(np.uint8)
    picture = _enlarged(np.stack([grey] * 3, axis=-1))
    for mask, colour in ((each.true, TRUE_COLOUR), (each.predicted, PREDICTED_COLOUR)):
        large = _enlarged(mask)
        picture[large & ~ndimage.binary_erosion(large)] = colour
    return picture


def _enlarged(values: NDArray[ScalarT]) -> NDArray[ScalarT]:
    return values.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
