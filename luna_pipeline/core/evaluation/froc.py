"""LUNA16's score: sensitivity against false positives per scan (FROC), and its mean at seven rates (CPM).

Rates and sensitivities are computed by the same operations in the same order as in the official script: at a vertical
step of the curve, the last bit of a rate decides between the upper and the lower end.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luna_pipeline.core.evaluation.froc_matching import FrocSamples
from luna_pipeline.core.evaluation.resampling import RankedSamples

OPERATING_POINTS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, eq=False, slots=True)
class FrocCurve:
    """FROC curve by decreasing threshold; nan if no nodule is found.

    Attributes:
        fps_per_scan: False positives per scan (P,), non-decreasing.
        sensitivity: Share of the nodules that are found (P,), non-decreasing.
        threshold: Lowest score that counts (P,), decreasing; the first is the highest score plus 1.
        num_nodules: Number of nodules, found or missed.
    """

    fps_per_scan: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    threshold: NDArray[np.float64]
    num_nodules: int

    @property
    def sens_at_points(self) -> NDArray[np.float64]:
        """Sensitivity at the seven rates (7,), linearly interpolated; constant beyond the end of the curve."""
        return sensitivity_at(OPERATING_POINTS, self)

    @property
    def cpm(self) -> float:
        """Mean sensitivity at the seven rates."""
        return float(self.sens_at_points.mean())

    @property
    def comparable_cpm(self) -> float:
        """CPM for comparisons: 0 for a model that finds no nodule; nan only without nodules.

        Officially both are nan. Skipping draws in which nothing is found would favour models that find little.
        """
        return 0.0 if np.isnan(self.cpm) and self.num_nodules else self.cpm


def sensitivity_at(fps_per_scan: tuple[float, ...] | NDArray[np.float64], curve: FrocCurve) -> NDArray[np.float64]:
    """Return a curve's sensitivity at these rates, interpolated as in the official script."""
    return np.asarray(np.interp(np.asarray(fps_per_scan), curve.fps_per_scan, curve.sensitivity))


@dataclass(frozen=True, eq=False, slots=True)
class RankedFroc:
    """Matched samples, sorted once, for the curves of many draws of scans.

    Attributes:
        ranked: Found nodules and false positives.
        nodules_of_scan: Number of nodules of each distinct scan, found or missed (M,).
        listed: Index of the distinct scan of each row of the list of scans (S,).
        is_corrected: Whether a curve without a found nodule is 0 instead of nan, and rates are not rounded.
    """

    ranked: RankedSamples
    nodules_of_scan: NDArray[np.int64]
    listed: NDArray[np.int64]
    is_corrected: bool = False

    @classmethod
    def of(cls, samples: FrocSamples, *, is_corrected: bool = False) -> "RankedFroc":
        """Sort matched samples; a scan that is listed twice has its samples twice."""
        scored = ~samples.is_missed
        ranked = RankedSamples.of(samples.probability[scored], samples.is_nodule[scored], samples.scans[scored])
        num_different = int(samples.listed.max()) + 1
        nodules = np.bincount(samples.scans[samples.is_nodule], minlength=num_different)
        return cls(ranked, nodules, samples.listed, is_corrected)

    def curve(self, draw: NDArray[np.int64] | None = None) -> FrocCurve:
        """Return the curve of a draw.

        Args:
            draw: How often each row of the list of scans is drawn (S,); None for the original samples.

        Returns:
            The curve, with a point wherever its slope changes; nan if no nodule is found or drawn.
        """
        if draw is None:
            # A scan that is listed twice already has its samples twice.
            times = None
            num_nodules = int(self.nodules_of_scan.sum())
        else:
            times = np.bincount(self.listed, weights=draw, minlength=len(self.nodules_of_scan)).astype(np.int64)
            num_nodules = int(times @ self.nodules_of_scan)
        found, wrong = self.ranked.counts(times)
        corners = _corners(found, wrong)
        found, wrong = np.append(0, found[corners]), np.append(0, wrong[corners])
        thresholds = self.ranked.thresholds[corners]
        first = thresholds[:1] + 1 if len(thresholds) else np.array([np.nan])
        with np.errstate(invalid="ignore", divide="ignore"):
            fps_per_scan, sensitivity = self._rates(found, wrong, num_nodules)
        return FrocCurve(fps_per_scan, sensitivity, np.append(first, thresholds), num_nodules)

    def _rates(
        self, found: NDArray[np.int64], wrong: NDArray[np.int64], num_nodules: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        num_scans = len(self.listed)
        if self.is_corrected:
            return wrong / num_scans, np.asarray(found / np.float64(num_nodules))
        # The official script divides and multiplies by the total, which rounds.
        fps_per_scan = wrong / wrong[-1] * float(wrong[-1]) / num_scans if wrong[-1] else np.zeros(len(wrong))
        return fps_per_scan, np.asarray(found / found[-1] * float(found[-1]) / np.float64(num_nodules))


def _corners(found: NDArray[np.int64], wrong: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices (K,) of the points that ``roc_curve`` keeps: other points change the last bit."""
    more_found, more_wrong = np.diff(found, prepend=0), np.diff(wrong, prepend=0)
    drawn = np.flatnonzero(more_found | more_wrong)
    more_found, more_wrong = more_found[drawn], more_wrong[drawn]
    is_kept = np.ones(len(drawn), dtype=bool)
    is_kept[1:-1] = (more_found[1:-1] != more_found[2:]) | (more_wrong[1:-1] != more_wrong[2:])
    return np.asarray(drawn[is_kept])
