"""Tables of a whole data set from the facts of its scans."""

from collections.abc import Iterable

import pandas as pd

from luna_pipeline.core.quality.findings import num_known
from luna_pipeline.core.quality.limits import LIMITS

NUMBERS = {
    "slice_spacing_mm": "Distance of slices, mm",
    "slice_thickness_mm": "Thickness of slices, mm",
    "pixel_spacing_mm": "Pixel, mm",
    "num_slices": "Slices",
    "field_of_view_mm": "Field of view, mm",
    "coverage_mm": "Length of the scan, mm",
    "tilt_deg": "Tilt of the axes, degrees",
    "tube_kv": "Tube voltage, kV",
    "tube_mas": "Tube current x time, mAs",
    "padding_share": "Share of padding",
    "clipped_share": "Share clipped at the lowest value",
    "median_hu": "Median, HU",
    "air_peak_hu": "Peak of air and lung, HU",
    "tissue_peak_hu": "Peak of soft tissue, HU",
    "noise_hu": "Noise in soft tissue, HU",
    "num_nodules": "Nodules of a scan",
    "num_candidates": "Candidates of a scan",
    "smallest_nodule_mm": "Smallest nodule of a scan, mm",
    "largest_nodule_mm": "Largest nodule of a scan, mm",
}
KINDS = {
    "data_source": "Data source",
    "fold": "Fold",
    "format": "File format",
    "manufacturer": "Manufacturer",
    "model": "Scanner",
    "kernel": "Kernel",
    "contrast": "Contrast agent",
    "position": "Patient position",
    "plane": "Plane of the slices",
    "axes": "Directions of col, row, index",
    "padding_hu": "Padding, HU",
}
NOT_STATED = "not stated"
# Lung-RADS's limits, and those of annotation and of masses.
_DIAMETERS_MM = ((0, 3), (3, 6), (6, 8), (8, 15), (15, 30), (30, float("inf")))


def summary_of_numbers(scans: pd.DataFrame) -> pd.DataFrame:
    """Return the spread of each number over the scans.

    Returns:
        ``fact``, ``num_known`` scans, ``minimum``, ``percentile_5``, ``median``, ``percentile_95`` and ``maximum``; a
        row for each number that is known of one scan or more.
    """
    rows = []
    for column, name in NUMBERS.items():
        values = scans[column].dropna().astype("float64")
        if len(values):
            spread = values.quantile([0.0, 0.05, 0.5, 0.95, 1.0])
            rows.append((name, len(values), *(float(value) for value in spread)))
    columns = ["fact", "num_known", "minimum", "percentile_5", "median", "percentile_95", "maximum"]
    return pd.DataFrame(rows, columns=columns)


def summary_of_kinds(scans: pd.DataFrame) -> pd.DataFrame:
    """Return the number of scans of each kind: ``fact``, ``value``, ``num_scans``, the most frequent first."""
    rows = []
    for column, name in KINDS.items():
        values = scans[column]
        if values.notna().any():
            texts = values.map(_text).where(values.notna(), NOT_STATED)
            counts = texts.value_counts()
            order = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
            rows += [(name, str(value), int(count)) for value, count in order]
    return pd.DataFrame(rows, columns=["fact", "value", "num_scans"])


def summary_of_diameters(diameters_mm: "Iterable[float]") -> pd.DataFrame:
    """Return the number of nodules by diameter: ``diameter``, ``num_nodules``, ``share``."""
    values = pd.Series(list(diameters_mm), dtype="float64").dropna()
    rows = []
    for lower, upper in _DIAMETERS_MM:
        count = int(((values >= lower) & (values < upper)).sum())
        name = f"{lower} mm and more" if upper == float("inf") else f"{lower} to < {upper} mm"
        rows.append((name, count, count / max(1, len(values))))
    return pd.DataFrame(rows, columns=["diameter", "num_nodules", "share"])


def table_of_limits(findings: pd.DataFrame, scans: pd.DataFrame) -> pd.DataFrame:
    """Return every limit with the number of its findings, and of scans whose value is known.

    Returns:
        ``limit``, ``level``, ``num_broken``, ``num_known``, ``rule``, ``reason``, ``source`` and ``advice``.
    """
    counts = findings["limit"].value_counts()
    rows = [
        (
            *(limit.name, limit.level, int(counts.get(limit.name, 0)), num_known(limit, scans)),
            *(limit.rule, limit.reason, limit.source, limit.advice),
        )
        for limit in LIMITS
    ]
    columns = ["limit", "level", "num_broken", "num_known", "rule", "reason", "source", "advice"]
    return pd.DataFrame(rows, columns=columns)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
