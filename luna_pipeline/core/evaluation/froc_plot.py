"""FROC curves of one or several systems as a PNG picture."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from luna_pipeline.core.evaluation.froc import OPERATING_POINTS, sensitivity_at
from luna_pipeline.core.evaluation.froc_bootstrap import GRID
from luna_pipeline.core.evaluation.official import FrocResult
from luna_pipeline.core.evaluation.picture import (
    DOTS_PER_INCH,
    MARKERS,
    format_value,
    legend_below,
    line_style,
    png_of,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Several bands would hide each other; the legend shows all intervals.
MAX_BANDS = 1
RATES = ("1/8", "1/4", "1/2", "1", "2", "4", "8")


def froc_png(
    results: Mapping[str, FrocResult], *, title: str = "", is_synthetic: bool = False, footnote: str = ""
) -> bytes:
    """Draw FROC curves with the seven operating points, the first one with its 95 % band.

    Args:
        results: Results by name, in the order of the legend.
        title: Addition to the title, such as the folds.
        is_synthetic: Whether to label the data as synthetic.
        footnote: A limitation of the models, in a few words.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(7.2, 5.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for place, (name, result) in enumerate(results.items()):
        _draw(axes, result, place=place, label=f"{name}: {_cpm_label(result)}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(OPERATING_POINTS, RATES)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(OPERATING_POINTS[0], OPERATING_POINTS[-1])
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("False positives per scan")
    axes.set_ylabel("Sensitivity")
    style_axes(axes, f"FROC, {title}" if title else "FROC")
    legend_below(axes, 0.12)
    return png_of(figure, is_synthetic=is_synthetic, footnote=footnote)


def _draw(axes: "Axes", result: FrocResult, *, place: int, label: str) -> None:
    curve, style, band = result.curve, line_style(place), result.band
    if np.isnan(curve.cpm):
        axes.plot([], [], label=label, **style)
        return
    if band is not None and place < MAX_BANDS:
        fill: dict[str, Any] = {"color": style["color"], "alpha": 0.18, "linewidth": 0}
        axes.fill_between(GRID, band.lower, band.upper, label="95 % of the draws of scans", **fill)
    axes.plot(GRID, sensitivity_at(GRID, curve), linewidth=1.8, clip_on=False, **style)
    marker: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "markersize": 5}
    axes.plot(OPERATING_POINTS, curve.sens_at_points, clip_on=False, **{**style, **marker, "linestyle": ""})
    axes.plot([], [], label=label, **style, **marker)


def _cpm_label(result: FrocResult) -> str:
    bounds = () if result.band is None else result.band.cpm_interval
    return f"CPM {format_value(result.curve.cpm, *bounds)}"
