"""FROC curves as a PNG picture: of one system with its band, or of several against each other."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from luna_pipeline.core.evaluation.froc import OPERATING_POINTS, sensitivity_at
from luna_pipeline.core.evaluation.froc_bootstrap import GRID
from luna_pipeline.core.evaluation.official import FrocResult
from luna_pipeline.core.evaluation.picture import DOTS_PER_INCH, MARKERS, SMALL, figure_of, look_of, png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More bands than one hide each other; the legend has all intervals.
MAX_BANDS = 1
RATES = ("1/8", "1/4", "1/2", "1", "2", "4", "8")


def froc_png(results: Mapping[str, FrocResult], *, title: str = "", is_synthetic: bool = False) -> bytes:
    """Draw FROC curves with the seven operating points; the first one with its 95 % band.

    Args:
        results: Curves by their names, in the order of the legend.
        title: What they are of, such as the folds.
        is_synthetic: Whether the picture must say that the data are made up.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(7.2, 5.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for place, (name, result) in enumerate(results.items()):
        _draw(axes, result, place=place, label=f"{name}: {_cpm_of(result)}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(OPERATING_POINTS, RATES)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(OPERATING_POINTS[0], OPERATING_POINTS[-1])
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("False positives a scan")
    axes.set_ylabel("Sensitivity")
    axes.set_title(f"FROC{f', {title}' if title else ''}", fontsize=11)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    # Below the curves: inside there is no corner that none may cross.
    axes.legend(fontsize=SMALL, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return png_of(figure, is_synthetic=is_synthetic)


def _draw(axes: "Axes", result: FrocResult, *, place: int, label: str) -> None:
    curve, look = result.curve, look_of(place)
    if np.isnan(curve.cpm):
        axes.plot([], [], label=label, **look)
        return
    if result.band is not None and place < MAX_BANDS:
        axes.fill_between(
            GRID,
            result.band.lower,
            result.band.upper,
            color=look["color"],
            alpha=0.18,
            linewidth=0,
            label="95 % of the draws of scans",
        )
    axes.plot(GRID, sensitivity_at(GRID, curve), linewidth=1.8, clip_on=False, **look)
    marker: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "markersize": 5}
    axes.plot(OPERATING_POINTS, curve.sens_at_points, clip_on=False, **{**look, **marker, "linestyle": ""})
    axes.plot([], [], label=label, **look, **marker)


def _cpm_of(result: FrocResult) -> str:
    text = f"CPM {figure_of(result.curve.cpm)}"
    if result.band is None:
        return text
    lower, upper = result.band.cpm_interval
    return f"{text} [{figure_of(lower)}, {figure_of(upper)}]"
