"""Comparison of two whole scans whose voxels differ: resampled, compressed with loss, filtered."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from luna_pipeline.core.same_scans.orientations import ORIENTATIONS, Orientation
from luna_pipeline.core.same_scans.thumbnails import cell_means

MIN_CORRELATION = 0.9
"""Correlation of details from which two scans are the same."""

_CELLS = 48
_SMOOTH_CELLS = 2.0
_NUM_TRIED = 2


def similarity_of(first: NDArray[np.int16], second: NDArray[np.int16]) -> tuple[Orientation, float]:
    """Return the orientation of the first scan in the second one, and the correlation of their details.

    Details are mean HU of up to 48 cells along each axis, without what is smoother than 2 cells: ribs, vessels and
    bronchi, which are elsewhere in another scan of the patient, but not the outline of the chest.

    Args:
        first: HU of a whole scan, shape (I, R, C).
        second: HU of another one with the same field of view.
    """
    coarse = cell_means(first, (16, 16, 16)), cell_means(second, (16, 16, 16))
    order = sorted(ORIENTATIONS, key=lambda each: float(np.square(each.of(coarse[0]) - coarse[1]).mean()))
    tried = ((each, _correlation(each.of(first), second)) for each in order[:_NUM_TRIED])
    return max(tried, key=lambda pair: pair[1])


def _correlation(first: NDArray[np.generic], second: NDArray[np.int16]) -> float:
    sizes = (min(_CELLS, here, there) for here, there in zip(first.shape, second.shape, strict=True))
    num_slices, num_rows, num_cols = sizes
    details = [_details(each, (num_slices, num_rows, num_cols)) for each in (first, second)]
    norms = [float(np.linalg.norm(each)) for each in details]
    return float(np.vdot(*details)) / (norms[0] * norms[1]) if min(norms) > 0 else 0.0


def _details(hounsfield: NDArray[np.generic], num_cells: tuple[int, int, int]) -> NDArray[np.float32]:
    means = cell_means(hounsfield, num_cells)  # type: ignore[arg-type]
    return np.asarray(means - gaussian_filter(means, _SMOOTH_CELLS))
