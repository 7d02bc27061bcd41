"""LUNA16's evaluation from tables to one result, for `luna evaluate_froc` and the asset `nodule_froc`."""

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
    """Result of LUNA16's evaluation of a system.

    Attributes:
        samples: Matched nodules and false positives.
        ranked: The same samples, sorted, for draws of scans.
        curve: FROC curve.
        band: Bootstrap band; None without bootstraps.
    """

    samples: FrocSamples
    ranked: RankedFroc
    curve: FrocCurve
    band: FrocBand | None

    def to_dict(self) -> dict[str, Any]:
        """Return ``counts``, ``sens_at_points``, ``cpm``, ``froc``, ``bootstrap``, ... for JSON; None if undefined."""
        curve = self.curve
        values = {
            "operating_points": OPERATING_POINTS,
            "n_scans": self.samples.num_scans,
            "counts": self.samples.counts,
            "sens_at_points": curve.sens_at_points,
            "cpm": curve.cpm,
            "froc": {name: getattr(curve, name) for name in ("fps_per_scan", "sensitivity", "threshold")},
            "bootstrap": None if self.band is None else _band_to_dict(self.band),
            "is_corrected": self.ranked.is_corrected,
            "intended_use": "research use only",
        }
        return {name: _to_json(value) for name, value in values.items()}


def evaluate_froc(
    tables: FrocTables, *, num_bootstraps: int = 0, seed: int = 0, is_corrected: bool = False
) -> FrocResult:
    """Evaluate marks by LUNA16's rules.

    Args:
        tables: Marks, nodules, excluded findings and scans.
        num_bootstraps: Number of draws of scans for intervals; 0 for none.
        seed: Seed of the draws.
        is_corrected: Whether to correct the official script's quirks, see docs/how_to/evaluate.md.

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


def _to_json(value: Any) -> Any:
    """Return JSON-compatible values: lists for arrays and tuples, None for nan and infinity."""
    if isinstance(value, dict):
        return {name: _to_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_to_json(entry) for entry in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
