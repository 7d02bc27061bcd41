"""Plots of a described data set as PNG."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from luna_pipeline.core.evaluation.picture import COLOURS, DOTS_PER_INCH, GREY, SMALL, png_of, style_axes
from luna_pipeline.core.quality.description import Description
from luna_pipeline.core.quality.limits import LIMITS
from luna_pipeline.core.quality.summary import NUMBERS
from luna_pipeline.core.quality.voxel_facts import BIN_HU, HISTOGRAM_HU

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SPREADS = (
    *("slice_spacing_mm", "slice_thickness_mm", "pixel_spacing_mm", "field_of_view_mm", "coverage_mm", "tube_kv"),
    *("tube_mas", "noise_hu", "padding_share"),
)
# Odd, so that a single value is in the middle of a bar.
_NUM_BINS = 31


def plots_of(description: Description) -> dict[str, bytes]:
    """Return the plots of a description by name, without those for which nothing is known."""
    drawn = {
        "histogram": _histogram(description.scans),
        "scans": _spreads(description.scans),
        "nodules": _nodules(description),
        "readers": _readers(description),
    }
    return {
        name: png_of(figure, is_synthetic=description.is_synthetic)
        for name, figure in drawn.items()
        if figure is not None
    }


def _histogram(scans: pd.DataFrame) -> Figure | None:
    """Draw the median over the scans of the share of voxels in each bin, and the range of 90 % of the scans."""
    counts = [values for values in scans["histogram"] if len(values)]
    if not counts:
        return None
    shares = np.asarray(counts, dtype=np.float64)
    # The outer bins hold everything beyond the axis.
    shares = (shares / np.maximum(shares.sum(axis=1, keepdims=True), 1))[:, 1:-1]
    middles = np.arange(HISTOGRAM_HU[0], HISTOGRAM_HU[1], BIN_HU)[1:-1] + BIN_HU / 2
    figure = Figure(figsize=(9.0, 3.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    low, middle, high = np.percentile(shares, [5, 50, 95], axis=0)
    axes.fill_between(middles, low, high, color=COLOURS[0], alpha=0.25, linewidth=0, label="90 % of the scans")
    axes.plot(middles, middle, color=COLOURS[0], linewidth=1.5, label=f"median of {len(counts)} scans")
    for place, name in ((-1000, "air"), (0, "water")):
        axes.axvline(place, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(name, (place, 1.0), xycoords=("data", "axes fraction"), fontsize=SMALL, color=GREY, va="bottom")
    style_axes(axes)
    axes.set(xlabel="HU", ylabel=f"Share of voxels in {BIN_HU} HU", ylim=(0, None), xlim=HISTOGRAM_HU)
    axes.legend(fontsize=SMALL, frameon=False, loc="upper right")
    return figure


def _spreads(scans: pd.DataFrame) -> Figure | None:
    known = [name for name in _SPREADS if scans[name].notna().any()]
    if not known:
        return None
    num_rows = -(-len(known) // 3)
    figure = Figure(figsize=(9.0, 2.3 * num_rows + 0.3), dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(num_rows, 3, squeeze=False).ravel()
    for axes, name in zip(grid, known, strict=False):
        values = scans[name].dropna().to_numpy(dtype=np.float64)
        _bars(axes, values)
        style_axes(axes, NUMBERS[name])
        axes.set_ylabel("scans")
        _mark_limits(axes, name)
    for axes in grid[len(known) :]:
        axes.set_axis_off()
    return figure


def _bars(axes: "Axes", values: Any) -> None:
    """Draw a histogram; equal values are one bar in the middle."""
    low, high = float(values.min()), float(values.max())
    # Rounding of headers must not make two bars of one value.
    margin = max((high - low) / 20, 0.1 * abs(high), 1e-3)
    axes.hist(values, bins=_NUM_BINS, range=(low - margin, high + margin), color=COLOURS[0])
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _mark_limits(axes: "Axes", column: str) -> None:
    """Draw the limits of a number where they are within the diagram."""
    left, right = axes.get_xlim()
    for limit in LIMITS:
        for bound in (limit.lower, limit.upper) if limit.column == column else ():
            if bound is not None and left <= bound <= right:
                axes.axvline(bound, color=COLOURS[1], linewidth=1.2, linestyle="--")


def _nodules(description: Description) -> Figure | None:
    scans, diameters = description.scans, description.nodules.dropna()
    if diameters.empty:
        return None
    figure = Figure(figsize=(9.0, 3.4), dpi=DOTS_PER_INCH, layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = scans["num_nodules"].dropna().astype("int64").value_counts().sort_index()
    left.bar(counts.index, counts.to_numpy(), color=COLOURS[0])
    style_axes(left, f"Nodules of a scan ({int(counts.sum())} scans)")
    left.set(xlabel="nodules", ylabel="scans")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.yaxis.set_major_locator(MaxNLocator(integer=True))
    _bars(right, diameters.to_numpy())
    style_axes(right, f"Diameters of {len(diameters)} nodules")
    right.set(xlabel="mm", ylabel="nodules")
    return figure


def _readers(description: Description) -> Figure | None:
    tables = description.tables
    if "readers" not in tables:
        return None
    by_readers, agreement = tables["readers"], tables["agreement"]
    figure = Figure(figsize=(9.0, 3.4), dpi=DOTS_PER_INCH, layout="constrained")
    left, right = figure.subplots(1, 2)
    bars = left.bar(by_readers["num_readers"], by_readers["num_nodules"], color=COLOURS[0])
    left.bar_label(bars, [f"{share:.0%}" for share in by_readers["share"]], fontsize=SMALL)
    style_axes(left, f"Nodules by number of readers ({int(by_readers['num_nodules'].sum())})")
    left.set(xlabel="readers that marked it", ylabel="nodules")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    _horizontal(right, agreement["rating"].tolist(), agreement["alpha"])
    style_axes(right, "Agreement on ratings (Krippendorff's alpha)")
    right.set(xlabel="0: chance, 1: equal", xlim=(agreement["alpha"].fillna(0.0).clip(upper=0.0).min() - 0.02, 1.0))
    return figure


def _horizontal(axes: "Axes", names: Sequence[str], values: pd.Series) -> None:
    """Draw a bar a name; ratings without differences have no alpha."""
    places = list(range(len(names)))[::-1]
    bars = axes.barh(places, values.fillna(0.0), color=COLOURS[0])
    labels = ["undefined: no differences" if pd.isna(value) else f"{value:.2f}" for value in values]
    axes.bar_label(bars, labels, fontsize=SMALL, padding=2)
    axes.set_yticks(places, [name.replace("_", " ") for name in names], fontsize=SMALL)
