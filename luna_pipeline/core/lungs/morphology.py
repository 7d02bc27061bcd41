"""Operations on masks (I, R, C) of axial slices: components, growth and closing in mm, holes."""

# SimpleITK types half of its wrappers.
# mypy: allow-untyped-calls

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

IN_PLANE = np.zeros((3, 3, 3), dtype=np.bool_)
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)
"""Neighbours within an axial slice that share an edge."""


def components(
    mask: NDArray[np.bool_], *, is_in_plane: bool = False
) -> tuple[NDArray[np.signedinteger], NDArray[np.intp]]:
    """Return the components' numbers from 1, (I, R, C), and their numbers of voxels, (N + 1,) with 0 for number 0.

    Args:
        mask: The mask.
        is_in_plane: Whether slices are separate; otherwise voxels are connected by their faces.
    """
    numbers, num_components = ndimage.label(mask, IN_PLANE if is_in_plane else None)
    counts = np.bincount(numbers.ravel(), minlength=num_components + 1)
    counts[0] = 0
    return numbers, counts


def lateral_border(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the mask of the outermost rows and columns; the first and the last slice do not count."""
    border = np.zeros(shape, dtype=np.bool_)
    border[:, [0, -1], :] = True
    border[:, :, [0, -1]] = True
    return border


def grown(mask: NDArray[np.bool_], reach_mm: float, spacing_irc: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the voxels whose centre is at most ``reach_mm`` from the centre of a voxel of the mask."""
    if reach_mm <= 0 or not mask.any():
        return mask
    image = sitk.GetImageFromArray(mask.view(np.uint8))
    image.SetSpacing([float(mm) for mm in spacing_irc[::-1]])
    distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=True, useImageSpacing=True)
    return np.asarray(sitk.GetArrayViewFromImage(distance) <= reach_mm**2)


def closed(mask: NDArray[np.bool_], reach_mm: float, spacing_irc: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Fill what a ball of radius ``reach_mm`` outside the mask cannot reach: vessels, nodules at the pleura.

    The mask is continued beyond the first and the last slice, where a CT cuts the lungs.
    """
    reach = [int(np.ceil(reach_mm / mm)) + 1 for mm in spacing_irc]
    wider = np.pad(mask, [(0, 0), *((voxels, voxels) for voxels in reach[1:])])
    wider = np.pad(wider, [(reach[0], reach[0]), (0, 0), (0, 0)], mode="edge")
    outside = grown(~grown(wider, reach_mm, spacing_irc), reach_mm, spacing_irc)
    inner = tuple(slice(voxels, voxels + size) for voxels, size in zip(reach, mask.shape, strict=True))
    return mask | ~outside[inner]


def without_holes(mask: NDArray[np.bool_], max_area: float) -> NDArray[np.bool_]:
    """Fill holes within axial slices of at most ``max_area`` pixels: a larger one is no vessel but the heart."""
    numbers, counts = components(~mask, is_in_plane=True)
    is_hole = (counts > 0) & (counts <= max_area)
    is_hole[np.unique(numbers[lateral_border(mask.shape)])] = False
    return np.asarray(mask | is_hole[numbers])
