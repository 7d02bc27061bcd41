"""How far a FROC would move if other scans had been taken."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.evaluation.froc import OPERATING_POINTS, RankedFroc, sensitivity_at
from luna_pipeline.core.evaluation.resampling import CONFIDENCE, MIN_SCANS, percentile_interval, scan_draws

# The official script's grid and its order statistics.
GRID = np.linspace(OPERATING_POINTS[0], OPERATING_POINTS[-1], num=10000)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrocBand:
    """A curve's mean and bounds over draws of scans, point by point (95 % of the draws at each rate by itself).

    Attributes:
        seed: Of the draws.
        num_bootstraps: Draws.
        mean: Sensitivity at each rate of ``GRID`` (10000,), float32 as in the script.
        lower: Lower bound.
        upper: Upper bound.
        cpm: CPM of each draw, float64 (B,); 0 where none of its nodules is found, nan where it has no nodule,
            and everywhere with fewer than two scans.
    """

    seed: int
    num_bootstraps: int
    mean: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    cpm: NDArray[np.float64]

    def at_points(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return one of the three at the seven rates (7,)."""
        at_points: NDArray[np.float64] = np.interp(OPERATING_POINTS, GRID, values)
        return at_points

    @property
    def cpm_mean(self) -> float:
        """Mean of ``mean`` at the seven rates."""
        return float(self.at_points(self.mean).mean())

    @property
    def cpm_interval(self) -> tuple[float, float]:
        """95 % interval of the CPM: of the draws' own CPMs, which is not the mean of the bounds."""
        return percentile_interval(self.cpm)


def froc_band(froc: RankedFroc, *, num_bootstraps: int, seed: int) -> FrocBand:
    """Draw scans with replacement and return what their curves have in common.

    Args:
        froc: Ranked samples.
        num_bootstraps: Draws, at least 1.
        seed: Of the draws.

    Raises:
        ValueError: If there is to be no draw.

    Source:
        ``computeFROC_bootstrap`` and ``compute_mean_ci`` of the official script: single precision, sorted values at
        ``floor(0.025 B)`` and ``floor(0.975 B)``.
    """
    if num_bootstraps < 1:
        msg = f"There must be at least one bootstrap, got {num_bootstraps}. Ask for 1000, or leave them out."
        raise ValueError(msg)
    # A row a rate: numpy sums a row in pairs, as it does the script's, and a column one by one, which in single
    # precision loses the sixth digit.
    curves = np.empty((len(GRID), num_bootstraps), dtype=np.float32)
    cpm = np.empty(num_bootstraps)
    for place, draw in enumerate(scan_draws(len(froc.listed), num_bootstraps=num_bootstraps, seed=seed)):
        curve = froc.curve(draw)
        curves[:, place] = sensitivity_at(GRID, curve)
        cpm[place] = curve.comparable_cpm if len(froc.listed) >= MIN_SCANS else math.nan
    # In place, because a copy is 40 MB; what is not defined comes last.
    curves.sort(axis=1)
    # Officially one draw without a curve leaves no mean.
    num_defined = int((~np.isnan(cpm)).sum()) if froc.is_corrected else num_bootstraps
    mean = curves[:, :num_defined].mean(axis=1) if num_defined else np.full(len(GRID), np.nan, dtype=np.float32)
    tail = (1.0 - CONFIDENCE) / 2.0
    lower, upper = (curves[:, math.floor(share * num_defined)] for share in (tail, 1.0 - tail))
    return FrocBand(seed=seed, num_bootstraps=num_bootstraps, mean=mean, lower=lower, upper=upper, cpm=cpm)
