"""Bootstrap of FROC curves over scans."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.evaluation.froc import OPERATING_POINTS, RankedFroc, sensitivity_at
from luna_pipeline.core.evaluation.resampling import CONFIDENCE, MIN_SCANS, percentile_interval, scan_draws

# Grid of rates of the official script.
GRID = np.linspace(OPERATING_POINTS[0], OPERATING_POINTS[-1], num=10000)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrocBand:
    """Pointwise mean and 95 % bounds of FROC curves over draws of scans.

    Attributes:
        seed: Seed of the draws.
        num_bootstraps: Number of draws.
        mean: Mean sensitivity at each rate of ``GRID`` (10000,), float32 as in the official script.
        lower: Lower bound at each rate (10000,).
        upper: Upper bound at each rate (10000,).
        cpm: CPM of each draw, float64 (B,); 0 if no nodule is found, nan if there is none; all nan with fewer than two
            scans.
    """

    seed: int
    num_bootstraps: int
    mean: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    cpm: NDArray[np.float64]

    def at_points(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Interpolate ``mean``, ``lower`` or ``upper`` at the seven rates (7,)."""
        return np.asarray(np.interp(OPERATING_POINTS, GRID, values))

    @property
    def cpm_mean(self) -> float:
        """Mean of ``mean`` at the seven rates."""
        return float(self.at_points(self.mean).mean())

    @property
    def cpm_interval(self) -> tuple[float, float]:
        """95 % interval of the CPM, from the CPMs of the draws (not the mean of the bounds)."""
        return percentile_interval(self.cpm)


def froc_band(froc: RankedFroc, *, num_bootstraps: int, seed: int) -> FrocBand:
    """Return mean and bounds of the curves of scans drawn with replacement.

    Args:
        froc: Sorted samples.
        num_bootstraps: Number of draws, at least 1.
        seed: Seed of the draws.

    Raises:
        ValueError: If ``num_bootstraps`` is below 1.

    Source:
        ``computeFROC_bootstrap`` and ``compute_mean_ci`` of the official script: single precision, sorted values at
        ``floor(0.025 B)`` and ``floor(0.975 B)``.
    """
    if num_bootstraps < 1:
        msg = f"There must be at least one bootstrap, got {num_bootstraps}. Ask for 1000, or leave them out."
        raise ValueError(msg)
    # One row per rate: numpy sums rows pairwise, as in the official script. Sums along columns are sequential and lose
    # the sixth digit in single precision.
    curves = np.empty((len(GRID), num_bootstraps), dtype=np.float32)
    cpm = np.empty(num_bootstraps)
    for place, draw in enumerate(scan_draws(len(froc.listed), num_bootstraps=num_bootstraps, seed=seed)):
        curve = froc.curve(draw)
        curves[:, place] = sensitivity_at(GRID, curve)
        cpm[place] = curve.comparable_cpm if len(froc.listed) >= MIN_SCANS else math.nan
    # In place, because a copy takes 40 MB; nan is sorted last.
    curves.sort(axis=1)
    # Officially, one undefined draw makes the mean undefined.
    num_defined = int((~np.isnan(cpm)).sum()) if froc.is_corrected else num_bootstraps
    mean = curves[:, :num_defined].mean(axis=1) if num_defined else np.full(len(GRID), np.nan, dtype=np.float32)
    tail = (1.0 - CONFIDENCE) / 2.0
    lower, upper = (curves[:, math.floor(share * num_defined)] for share in (tail, 1.0 - tail))
    return FrocBand(seed=seed, num_bootstraps=num_bootstraps, mean=mean, lower=lower, upper=upper, cpm=cpm)
