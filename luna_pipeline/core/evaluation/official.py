"""LUNA16's evaluation from tables to one result: what `luna evaluate_froc` and the asset `nodule_froc` call."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from luna_pipeline.core.evaluation.froc import OPERATING_POINTS, FrocCurve, RankedFroc
from luna_pipeline.core.evaluation.froc_bootstrap import FrocBand, froc_band
from luna_pipeline.core.evaluation.froc_files import FrocTables
from luna_pipeline.core.evaluation.froc_matching import FrocSamples, match_marks


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrocResult:
    """What LUNA16's evaluation says of a system.

    Attributes:
        samples: What became of each nodule and mark.
        ranked: The same, ranked, for draws of scans.
        curve: The curve.
        band: What other scans might have given; None where nothing was drawn.
    """

    samples: FrocSamples
    ranked: RankedFroc
    curve: FrocCurve
    band: FrocBand | None

    def to_dict(self) -> dict[str, Any]:
        """Return ``counts``, ``sens_at_points``, ``cpm``, ``froc`` and ``bootstrap`` for JSON; None is undefined."""
        curve = self.curve
        values: dict[str, Any] = _plain(
            {
                "operating_points": OPERATING_POINTS,
                "n_scans": self.samples.num_scans,
                "counts": self.samples.counts,
                "sens_at_points": curve.sens_at_points,
                "cpm": curve.cpm,
                "froc": {
                    "fps_per_scan": curve.fps_per_scan,
                    "sensitivity": curve.sensitivity,
                    "threshold": curve.threshold,
                },
                "bootstrap": None if self.band is None else _band_to_dict(self.band),
                "is_corrected": self.ranked.is_corrected,
                "intended_use": "research use only",
            }
        )
        return values


def evaluate_froc(
    tables: FrocTables, *, num_bootstraps: int = 0, seed: int = 0, is_corrected: bool = False
) -> FrocResult:
    """Evaluate marks as LUNA16 does.

    Args:
        tables: Marks, nodules, excluded findings and scans.
        num_bootstraps: Draws of scans for intervals; 0 for none.
        seed: Of the draws.
        is_corrected: Whether the script's oddities are read as they were meant, see docs/evaluation.md.

    Raises:
        ValueError: If there is no scan.
    """
    samples = match_marks(tables.marks, tables.nodules, tables.excluded, tables.scans, is_corrected=is_corrected)
    ranked = RankedFroc.of(samples, is_corrected=is_corrected)
    band = froc_band(ranked, num_bootstraps=num_bootstraps, seed=seed) if num_bootstraps else None
    return FrocResult(samples=samples, ranked=ranked, curve=ranked.curve(), band=band)


def _band_to_dict(band: FrocBand) -> dict[str, Any]:
    lower, upper = band.cpm_interval
    return {
        "seed": band.seed,
        "num_bootstraps": band.num_bootstraps,
        "sens_mean": band.at_points(band.mean),
        "sens_lower": band.at_points(band.lower),
        "sens_upper": band.at_points(band.upper),
        "cpm_mean": band.cpm_mean,
        "cpm_lower": lower,
        "cpm_upper": upper,
    }


def _plain(value: Any) -> Any:
    """Return values that JSON knows; it knows neither nan nor infinity."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(entry) for entry in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
