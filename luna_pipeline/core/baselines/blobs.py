"""What hangs together around a candidate: size and shape of the tissue at the middle of a cutout, in mm."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from luna_pipeline.core.baselines.surroundings import Surroundings

TISSUE_HU = -400
"""From here on a voxel counts as tissue: half-way between aerated lung (-850 HU) and soft tissue (50 HU)."""

REACH_MM = 3.0
"""A detector's position lies beside the middle of what it found: the nearest tissue within this distance is taken."""

BLOB_FEATURES = {
    "blob_volume_mm3": "volume of the tissue at the middle; 0 where there is none within 3 mm",
    "blob_diameter_mm": "diameter of a ball of that volume",
    "blob_long_axis_mm": "longest axis of the ellipsoid with the same inertia",
    "blob_short_axis_mm": "shortest axis of that ellipsoid",
    "blob_elongation": "long through middle axis: 1 ball or disc, large for a vessel",
    "blob_flatness": "middle through short axis: 1 ball or vessel, large for a fissure or the chest wall",
    "blob_sphericity": "share of the tissue that lies in a ball of its volume around its centroid: 1 ball",
    "blob_fill": "volume through that of the ellipsoid: 1 ellipsoid, small for branches and bent walls",
    "blob_offset_mm": "distance of the centroid from the middle of the cutout",
    "blob_mean_hu": "mean HU of the tissue",
    "blob_std_hu": "standard deviation of its HU",
    "blob_touches_border": "1 where the tissue goes on beyond what was looked at, else 0",
}
"""What each measure is."""

_ABSENT = {"blob_volume_mm3": 0.0, "blob_diameter_mm": 0.0, "blob_touches_border": 0.0}
_NOTHING = np.array([_ABSENT.get(name, np.nan) for name in BLOB_FEATURES])


def blob_features(boxes_hu: NDArray[np.int16], around: Surroundings) -> NDArray[np.float64]:
    """Measure the tissue at the middle: the face-connected voxels of at least -400 HU within the box.

    Args:
        boxes_hu: HU (N, V), the boxes of cutouts, flat.
        around: Their geometry.

    Returns:
        (N, 12), in the order of ``BLOB_FEATURES``. Without tissue within 3 mm volume, diameter and
        ``blob_touches_border`` are 0 and the others nan.
    """
    is_tissue = boxes_hu >= TISSUE_HU
    near = around.ball[: around.num_within(REACH_MM)]
    first = is_tissue[:, near].argmax(axis=1)
    found = np.empty((len(boxes_hu), len(BLOB_FEATURES)))
    for row, seed in enumerate(near[first]):
        if not is_tissue[row, seed]:
            found[row] = _NOTHING
            continue
        labels, _ = ndimage.label(is_tissue[row].reshape(around.shape_irc))
        flat = labels.ravel()
        found[row] = _measures(np.flatnonzero(flat == flat[seed]), boxes_hu[row], around)
    return found


def _measures(voxels: NDArray[np.intp], box_hu: NDArray[np.int16], around: Surroundings) -> NDArray[np.float64]:
    """Return the measures (12,) of the voxels at these places in the box."""
    volume_mm3 = len(voxels) * around.voxel_mm3
    diameter_mm = _diameter_of_ball(volume_mm3)
    positions_mm = around.positions_mm[voxels]
    centroid_mm = positions_mm.mean(axis=0)
    relative_mm = positions_mm - centroid_mm
    short_mm, middle_mm, long_mm = _axes(relative_mm, around)
    is_in_ball = (relative_mm**2).sum(axis=1) <= (diameter_mm / 2) ** 2
    values_hu = box_hu[voxels].astype(np.float64)
    return np.array(
        [
            volume_mm3,
            diameter_mm,
            long_mm,
            short_mm,
            long_mm / middle_mm,
            middle_mm / short_mm,
            is_in_ball.mean(),
            volume_mm3 / (np.pi / 6 * long_mm * middle_mm * short_mm),
            np.linalg.norm(centroid_mm),
            values_hu.mean(),
            values_hu.std(),
            around.is_border[voxels].any(),
        ]
    )


def _axes(relative_mm: NDArray[np.float64], around: Surroundings) -> NDArray[np.float64]:
    """Return the axes (3,) in mm, rising, of the ellipsoid with the inertia of these voxels.

    A solid ellipsoid has the variance a²/5 along its semi-axis a. A voxel is a box of its own extent: without its
    variance, spacing²/12, one voxel would have no size.
    """
    covariance = relative_mm.T @ relative_mm / len(relative_mm) + np.diag(np.square(around.spacing_irc_mm)) / 12
    axes_mm: NDArray[np.float64] = 2 * np.sqrt(5 * np.linalg.eigvalsh(covariance))
    return axes_mm


def _diameter_of_ball(volume_mm3: float) -> float:
    return float(np.cbrt(6 * volume_mm3 / np.pi))
