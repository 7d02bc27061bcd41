"""Trachea and main bronchi: dark tubes in the middle of the chest that no axial slice connects with a lung."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from luna_pipeline.core.lungs.morphology import IN_PLANE, components

LUMEN_HU = (-600, -750)
"""Upper bounds of a tube's inside. Thin walls between trachea and lung, of partial volume, are above; with voxels of
4 mm they are above the second bound only."""

DARKEST_HU = -930
"""A tube is darker than this at its darkest place; lung tissue is not."""

# Shares of the body's cross-section, whose root is 240 to 300 mm in adults: a trachea has 15 to 25 mm.
_AREA_SHARES = (0.0004, 0.02)
_LENGTH_SHARE, _OFF_MIDDLE_SHARE = 0.06, 0.12
# A wall of one voxel may be open in single slices; tubes above and below are joined across them.
_NUM_JOINED_SLICES = 7


def find_airways(
    hounsfield: NDArray[np.float32],
    smooth_hu: NDArray[np.float32],
    air: NDArray[np.bool_],
    spacing_irc: NDArray[np.float64],
    body_area_mm2: float,
) -> NDArray[np.bool_]:
    """Return the mask (I, R, C) of trachea and main bronchi within the air of the body; empty if there are none.

    Args:
        hounsfield: HU of an axial CT, (I, R, C).
        smooth_hu: The same, smoothed against noise.
        air: Air within the body.
        spacing_irc: mm along index, row, col.
        body_area_mm2: Cross-section of the body.
    """
    pixel_mm2 = float(spacing_irc[1] * spacing_irc[2])
    least, most = (share * body_area_mm2 / pixel_mm2 for share in _AREA_SHARES)
    dark = np.zeros_like(air)
    for lumen_hu in LUMEN_HU:
        sections, areas = components(air & (hounsfield < lumen_hu), is_in_plane=True)
        darkest = np.asarray(ndimage.minimum(smooth_hu, sections, np.arange(len(areas))))
        dark |= ((areas > least) & (areas < most) & (darkest < DARKEST_HU))[sections]
    tubes = _long_tubes(dark, air, spacing_irc, float(np.sqrt(body_area_mm2)))
    joined = ndimage.binary_closing(tubes, np.ones((_NUM_JOINED_SLICES, 1, 1), dtype=np.bool_)) | tubes
    return np.asarray(ndimage.binary_dilation(joined, IN_PLANE) & air)


def _long_tubes(
    sections: NDArray[np.bool_], air: NDArray[np.bool_], spacing_irc: NDArray[np.float64], width_mm: float
) -> NDArray[np.bool_]:
    """Return the sections that form long tubes near the middle of the air along the columns."""
    cols = np.flatnonzero(air.any(axis=(0, 1)))
    tubes = np.zeros_like(sections)
    numbers, _ = ndimage.label(sections, np.ones((3, 3, 3), dtype=np.bool_))
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        tube = numbers[box] == number
        middle_col = box[2].start + np.median(np.nonzero(tube)[2])
        off_middle_mm = abs(float(middle_col) - (cols[0] + cols[-1]) / 2) * spacing_irc[2]
        is_long = tube.shape[0] * spacing_irc[0] >= _LENGTH_SHARE * width_mm
        if is_long and off_middle_mm <= _OFF_MIDDLE_SHARE * width_mm:
            tubes[box] |= tube
    return tubes
