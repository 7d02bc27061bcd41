"""Which annotated nodule a point lies in."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def nearest_within_radius(points_xyz: ArrayLike, centers_xyz: ArrayLike, radii_mm: ArrayLike) -> NDArray[np.int64]:
    """Return for each point the nearest of the spheres that it lies in.

    Args:
        points_xyz: World mm, shape (N, 3).
        centers_xyz: World mm, shape (M, 3).
        radii_mm: Shape (M,).

    Returns:
        Place in ``centers_xyz``, shape (N,); -1 where a point lies in no sphere. A point on the surface lies outside;
        of two centres at one distance the first counts.

    Raises:
        ValueError: If there is not one radius a centre.

    Source:
        LUNA16's evaluation script: a hit lies at less than the nodule's radius; compared in squared mm as there.
    """
    points = np.asarray(points_xyz, dtype=np.float64).reshape(-1, 3)
    centers = np.asarray(centers_xyz, dtype=np.float64).reshape(-1, 3)
    radii = np.asarray(radii_mm, dtype=np.float64).reshape(-1)
    if len(centers) != len(radii):
        msg = f"There must be one radius a centre, got {len(radii)} for {len(centers)}. Hand over both from one table."
        raise ValueError(msg)
    nearest = np.full(len(points), -1, dtype=np.int64)
    least_mm2 = np.full(len(points), np.inf)
    for place, (center, radius) in enumerate(zip(centers, radii, strict=True)):
        distance_mm2 = ((points - center) ** 2).sum(axis=1)
        is_better = (distance_mm2 < radius**2) & (distance_mm2 < least_mm2)
        nearest[is_better] = place
        least_mm2[is_better] = distance_mm2[is_better]
    return nearest
