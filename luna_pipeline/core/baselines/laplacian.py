"""Zero rule of detection: the brightest blobs in the lungs, by a Laplacian of Gaussian over several scales."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from luna_pipeline.core.config.checks import check_integer
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.lungs.coarse import CoarseGrid
from luna_pipeline.core.lungs.mask import Lungs, tight_box

DIAMETERS_MM = (3.0, 4.5, 6.5, 9.5, 14.0, 20.0, 30.0)
"""Diameters of the balls to which the scales respond most."""

BLOCK_MM = 1.5
"""Largest length of the blocks of voxels that are averaged first, unless voxels are longer."""

HU_WINDOW = (-1000, 100)
"""HU outside are clipped: a calcification is not a better blob than tissue."""


@dataclass(frozen=True, eq=False, slots=True)
class Blobs:
    """Blobs of a CT in falling order of their score.

    Attributes:
        center_xyz: Centres in world mm, float64 (N, 3), between the voxels.
        diameter_mm: Diameters of the best scale, float64 (N,).
        score: Response of the best scale, float64 (N,): about 1 for a ball of tissue in lung, above 0.
    """

    center_xyz: NDArray[np.float64]
    diameter_mm: NDArray[np.float64]
    score: NDArray[np.float64]


def laplacian_candidates(
    hounsfield: NDArray[np.int16], grid: VoxelGrid, lungs: Lungs, *, max_candidates: int = 100
) -> Blobs:
    """Return the brightest blobs in the lungs; it learns nothing from data.

    What lies outside the lungs is replaced by their median HU, so that the chest wall is no blob.

    Args:
        hounsfield: HU, (I, R, C), of a CT of any orientation.
        grid: Its grid.
        lungs: Its lungs.
        max_candidates: Largest number of blobs.

    Raises:
        ValueError: If ``max_candidates`` is not positive.
    """
    check_integer("max_candidates", max_candidates, at_least=1)
    view = AxialView(grid)
    coarse = CoarseGrid(view.grid, max_block_mm=BLOCK_MM)
    inside = coarse.shares(view.of(lungs.mask)) == 1
    if not inside.any():
        return Blobs(np.empty((0, 3)), np.empty(0), np.empty(0))
    box = tight_box(inside)
    density = coarse.averaged_hu(view.of(hounsfield))[box]
    score, scale = _responses(np.clip(density, *HU_WINDOW), inside[box], coarse.spacing_irc)
    peaks = _separate_peaks(score, scale, inside[box], coarse.spacing_irc, max_candidates)
    blocks = _between_blocks(score, peaks) + [cut.start for cut in box]
    at_peaks = tuple(peaks.T)
    return Blobs(
        view.grid.voxel_to_world(coarse.to_fine(blocks)),
        np.asarray(DIAMETERS_MM)[scale[at_peaks]],
        score[at_peaks].astype(np.float64),
    )


def _responses(
    hu: NDArray[np.float32], inside: NDArray[np.bool_], spacing_irc: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return the largest response over all scales and the number of its scale, (I, R, C) each."""
    background = np.median(hu[inside])
    contrast = np.where(inside, hu - background, 0).astype(np.float32) / max(1.0, -float(background))
    best = np.full(hu.shape, -np.inf, dtype=np.float32)
    scale = np.zeros(hu.shape, dtype=np.intp)
    for number, diameter_mm in enumerate(DIAMETERS_MM):
        # A ball's response is largest at the scale radius / sqrt(3).
        sigma_mm = diameter_mm / 2 / 3**0.5
        smooth = ndimage.gaussian_filter(contrast, sigma_mm / spacing_irc, mode="nearest")
        response = np.zeros_like(smooth)
        for axis, mm in enumerate(spacing_irc):
            response -= sigma_mm**2 * ndimage.correlate1d(smooth, np.array([1.0, -2.0, 1.0]) / mm**2, axis=axis)
        is_better = response > best
        best[is_better], scale[is_better] = response[is_better], number
    return best, scale


def _separate_peaks(
    score: NDArray[np.float32],
    scale: NDArray[np.intp],
    inside: NDArray[np.bool_],
    spacing_irc: NDArray[np.float64],
    max_candidates: int,
) -> NDArray[np.intp]:
    """Return the local maxima (N, 3) in falling order, without those within the ball of a higher one."""
    is_peak = inside & (score > 0) & (score == ndimage.maximum_filter(score, size=3))
    peaks = np.argwhere(is_peak)
    # Stable: equal scores stay in the order of the voxels.
    peaks = peaks[np.argsort(-score[is_peak], kind="stable")]
    positions_mm, radii_mm = peaks * spacing_irc, np.asarray(DIAMETERS_MM)[scale[tuple(peaks.T)]] / 2
    kept: list[int] = []
    for number, position_mm in enumerate(positions_mm):
        if len(kept) == max_candidates:
            break
        distance_mm = np.linalg.norm(positions_mm[kept] - position_mm, axis=1)
        if not (distance_mm <= np.maximum(radii_mm[kept], radii_mm[number])).any():
            kept.append(number)
    return np.asarray(peaks[kept])


def _between_blocks(score: NDArray[np.float32], peaks: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the peaks (N, 3) moved by at most half a block to the top of a parabola through their neighbours."""
    moved = peaks.astype(np.float64)
    for axis in range(3):
        step = np.eye(3, dtype=np.intp)[axis]
        lower, upper = peaks - step, np.minimum(peaks + step, np.asarray(score.shape) - 1)
        before, at, after = (score[tuple(np.maximum(place, 0).T)].astype(np.float64) for place in (lower, peaks, upper))
        bend = before - 2 * at + after
        moved[:, axis] += np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1), 0).clip(-0.5, 0.5)
    return moved
