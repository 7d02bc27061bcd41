"""What a scan's voxels say: histogram of HU, padding, peaks of air and soft tissue, noise, digest of the content.

Source:
    Noise: Christianson et al., Automated technique to measure noise in clinical CT examinations, AJR 205 (2015)
    W93-W99: the most frequent standard deviation of small regions in soft tissue.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.ct.errors import UnreadableCtError
from luna_pipeline.core.ct.geometry import VoxelGrid
from luna_pipeline.core.ct.orientation import AxialView
from luna_pipeline.core.ct.plausible_hu import check_plausible_hu
from luna_pipeline.core.ct.reading import open_ct

HISTOGRAM_HU = (-1100, 1000)
"""Range of the histogram. Values outside are counted in its first and last bin."""
BIN_HU = 10

# About 3 million voxels of a scan: 48 slices of 256 x 256.
_MAX_SLICES, _MAX_IN_PLANE = 48, 256
_NOISE_SLICES, _WINDOW_PX = 8, 7
# Tissue and air are never so low: a value that is as frequent is padding.
_BELOW_AIR_HU, _MIN_PADDING_SHARE = -1100, 0.005
_AIR_HU, _TISSUE_HU, _REGION_HU = (-1100, -700), (-50, 250), (0.0, 100.0)
# Regions of tissue that are too few give no noise: 1 % of the windows.
_MIN_REGION_SHARE = 0.01
_MAX_NOISE_HU = 300


@dataclass(frozen=True, kw_only=True)
class VoxelFacts:
    """Facts of a scan's voxels, from a sample at even distances; nan where they cannot be had.

    Attributes:
        is_hounsfield: Whether air and tissue are where HU have them, as the readers of cutouts require; None for gray
            values of an unknown scale, of which peaks and noise are nan.
        lowest_hu: Lowest value.
        highest_hu: Highest value.
        percentile_1_hu: 1 % of the voxels that are no padding are at or below it.
        median_hu: Median of these voxels.
        percentile_99_hu: 99 % of these voxels are at or below it.
        padding_hu: Value that marks voxels without a measurement, below -1100 HU; nan without one.
        padding_share: Share of the voxels with such values, 0 to 1.
        clipped_share: Share of voxels with the lowest value that may be air (-1100 HU or above): scanners that cannot
            store less have 1 to 30 % of them.
        air_peak_hu: Most frequent value of small regions between -1100 and -700 HU.
        tissue_peak_hu: Most frequent value of small regions between -50 and 250 HU.
        noise_hu: Most frequent standard deviation of small regions in soft tissue.
        content_digest: Equal for equal voxels in any file format and order of axes.
        histogram: Numbers of sampled voxels in bins of 10 HU, without padding.
    """

    is_hounsfield: bool | None
    lowest_hu: float
    highest_hu: float
    percentile_1_hu: float
    median_hu: float
    percentile_99_hu: float
    padding_hu: float
    padding_share: float
    clipped_share: float
    air_peak_hu: float
    tissue_peak_hu: float
    noise_hu: float
    content_digest: str
    histogram: list[int]


@dataclass(frozen=True)
class VoxelJob:
    """Reads one scan and returns its facts, in this process or another.

    Attributes:
        path: File or DICOM folder.
        series_instance_uid: The series.
    """

    path: Path
    series_instance_uid: str

    def run(self) -> VoxelFacts:
        """Read the scan.

        Raises:
            UnreadableCtError: If it cannot be read.
        """
        ct = open_ct(self.path, series_instance_uid=self.series_instance_uid).read()
        return voxel_facts(ct.hounsfield, ct.grid, is_scale_known=ct.is_hounsfield)


def voxel_facts(hounsfield: NDArray[np.int16], grid: VoxelGrid, *, is_scale_known: bool = True) -> VoxelFacts:
    """Return the facts of a scan.

    Args:
        hounsfield: HU, shape (I, R, C).
        grid: Its grid, for the order of its axes.
        is_scale_known: Whether the format holds HU.
    """
    axial = AxialView(grid).of(hounsfield)
    sample = sampled(axial)
    padding_hu, is_padding = _padding(sample)
    values = sample[~is_padding]
    low, middle, high = (
        (float(value) for value in np.percentile(values, [1, 50, 99])) if values.size else [math.nan] * 3
    )
    lowest = int(values.min()) if values.size else _BELOW_AIR_HU - 1
    means, deviations = _regions(axial, padding_hu)
    if not is_scale_known:
        means, deviations = means[:0], deviations[:0]
    return VoxelFacts(
        is_hounsfield=_is_hounsfield(hounsfield) if is_scale_known else None,
        lowest_hu=float(sample.min()),
        highest_hu=float(sample.max()),
        percentile_1_hu=low,
        median_hu=middle,
        percentile_99_hu=high,
        padding_hu=padding_hu,
        padding_share=float(is_padding.mean()),
        clipped_share=float((sample == lowest).mean()) if lowest >= _BELOW_AIR_HU else 0.0,
        air_peak_hu=_peak(means, _AIR_HU),
        tissue_peak_hu=_peak(means, _TISSUE_HU),
        noise_hu=_noise(means, deviations),
        content_digest=_digest(axial.shape, sample),
        histogram=histogram_of(values),
    )


def sampled(axial: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return voxels of an axial view (I, R, C) at even distances: at most 48 slices of about 256 x 256."""
    limits = (_MAX_SLICES, _MAX_IN_PLANE, _MAX_IN_PLANE)
    steps = [-(-size // limit) for size, limit in zip(axial.shape, limits, strict=True)]
    return np.ascontiguousarray(axial[tuple(slice(step // 2, None, step) for step in steps)])


def histogram_of(values: NDArray[np.int16]) -> list[int]:
    """Return the numbers of values in bins of ``BIN_HU`` over ``HISTOGRAM_HU``; those outside are in the outer bins."""
    lower, upper = HISTOGRAM_HU
    places = (np.clip(values.astype(np.int32), lower, upper - 1) - lower) // BIN_HU
    return [int(n) for n in np.bincount(places.ravel(), minlength=(upper - lower) // BIN_HU)]


def _is_hounsfield(hounsfield: NDArray[np.int16]) -> bool:
    try:
        check_plausible_hu(hounsfield, where="")
    except UnreadableCtError:
        return False
    return True


def _padding(sample: NDArray[np.int16]) -> tuple[float, NDArray[np.bool_]]:
    """Return the most frequent padding value, nan without one, and where the sample is padding."""
    found, counts = np.unique(sample[sample < _BELOW_AIR_HU], return_counts=True)
    is_frequent = counts >= _MIN_PADDING_SHARE * sample.size
    if not is_frequent.any():
        return math.nan, np.zeros(sample.shape, dtype=np.bool_)
    return float(found[np.argmax(counts)]), np.isin(sample, found[is_frequent])


def _regions(axial: NDArray[np.int16], padding_hu: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of 7 x 7 pixels around each pixel of some slices, without those at padding."""
    from scipy.ndimage import uniform_filter

    step = -(-axial.shape[0] // _NOISE_SLICES)
    means, deviations = [], []
    for plane in axial[step // 2 :: step]:
        values = plane.astype(np.float32)
        mean = uniform_filter(values, _WINDOW_PX)
        # About the mean of the plane, so that the difference of squares keeps its digits.
        centred = values - values.mean()
        variance = uniform_filter(centred * centred, _WINDOW_PX) - (mean - values.mean()) ** 2
        is_measured = np.ones(plane.shape, dtype=np.bool_)
        if not math.isnan(padding_hu):
            is_measured = uniform_filter((plane <= _BELOW_AIR_HU).astype(np.float32), _WINDOW_PX) < 1e-3
        means.append(mean[is_measured])
        deviations.append(np.sqrt(np.maximum(variance, 0.0))[is_measured])
    return np.concatenate(means), np.concatenate(deviations)


def _peak(means: NDArray[np.float32], window_hu: tuple[int, int]) -> float:
    """Return the middle of the fullest bin of 10 HU in a window; nan where less than 1 % of the regions are in it."""
    inside = means[(means >= window_hu[0]) & (means < window_hu[1])]
    if inside.size < _MIN_REGION_SHARE * means.size or not inside.size:
        return math.nan
    counts, edges = np.histogram(inside, bins=(window_hu[1] - window_hu[0]) // BIN_HU, range=window_hu)
    return float(edges[int(np.argmax(counts))]) + BIN_HU / 2


def _noise(means: NDArray[np.float32], deviations: NDArray[np.float32]) -> float:
    is_tissue = (means >= _REGION_HU[0]) & (means < _REGION_HU[1])
    if is_tissue.sum() < _MIN_REGION_SHARE * means.size or not means.size:
        return math.nan
    counts, edges = np.histogram(deviations[is_tissue], bins=_MAX_NOISE_HU, range=(0, _MAX_NOISE_HU))
    # Bins of 1 HU are uneven where the scan has few regions: the mean of three neighbours.
    smooth = np.convolve(counts, np.ones(3), mode="same")
    return float(edges[int(np.argmax(smooth))]) + 0.5


def _digest(shape: tuple[int, ...], sample: NDArray[Any]) -> str:
    import xxhash

    digest = xxhash.xxh3_128(np.asarray(shape, dtype="<i8").tobytes())
    digest.update(sample.astype("<i2", copy=False).tobytes())
    return digest.hexdigest()
