"""Size and shape of the connected tissue at the centre of a cutout, in mm."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from luna_pipeline.core.baselines.surroundings import Surroundings

TISSUE_HU = -400
"""Lower bound of tissue: half-way between aerated lung (-850 HU) and soft tissue (50 HU)."""

REACH_MM = 3.0
"""Detectors do not hit the centre of their finding: the nearest tissue within this distance is measured."""

BLOB_FEATURES = {
    "blob_volume_mm3": "volume of the tissue at the centre; 0 if there is none within 3 mm",
    "blob_diameter_mm": "diameter of a ball of that volume",
    "blob_long_axis_mm": "longest axis of the ellipsoid with the same inertia",
    "blob_short_axis_mm": "shortest axis of that ellipsoid",
    "blob_elongation": "long divided by middle axis: 1 ball or disc, large for a vessel",
    "blob_flatness": "middle divided by short axis: 1 ball or vessel, large for a fissure or the chest wall",
    "blob_sphericity": "share of the tissue that lies in a ball of its volume around its centroid: 1 ball",
    "blob_fill": "volume divided by that of the ellipsoid: 1 ellipsoid, small for branches and bent walls",
    "blob_offset_mm": "distance of the centroid from the centre of the cutout",
    "blob_mean_hu": "mean HU of the tissue",
    "blob_std_hu": "standard deviation of its HU",
    "blob_touches_border": "1 if the tissue reaches the border of the box, else 0",
}
"""Description of each measure, in the order of the columns."""

_ABSENT = {"blob_volume_mm3": 0.0, "blob_diameter_mm": 0.0, "blob_touches_border": 0.0}
_NOTHING = np.array([_ABSENT.get(name, np.nan) for name in BLOB_FEATURES])


def blob_features(boxes_hu: NDArray[np.int16], around: Surroundings) -> NDArray[np.float64]:
    """Measure the tissue at the centre: the face-connected voxels of at least -400 HU within the box.

    Args:
        boxes_hu: HU (N, V), the flattened boxes of the cutouts.
        around: Geometry of the boxes.

    Returns:
        Measures (N, 12), in the order of ``BLOB_FEATURES``. Without tissue within 3 mm, volume, diameter and
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
    """Return the measures (12,) of the voxels with these flat indices in the box."""
    volume_mm3 = len(voxels) * float(np.prod(around.spacing_irc_mm))
    diameter_mm = float(np.cbrt(6 * volume_mm3 / np.pi))
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
    """Return the axes (3,) in mm, ascending, of the ellipsoid with the inertia of these voxels.

    A solid ellipsoid has the variance a²/5 along its semi-axis a. The variance within each voxel, spacing²/12, is
    added, so that a single voxel has a size.
    """
    covariance = relative_mm.T @ relative_mm / len(relative_mm) + np.diag(np.square(around.spacing_irc_mm)) / 12
    axes_mm: NDArray[np.float64] = 2 * np.sqrt(5 * np.linalg.eigvalsh(covariance))
    return axes_mm
