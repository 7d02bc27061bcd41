"""The results as one plot: procedures for cutting a series, and growth of the costs."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.derived import limit_ms

# matplotlib types none of what is used here.
Axes = Any
Results = dict[str, Any]
LABELS = {
    "tutorial": "tutorial",
    "tutorial_without_csv": "tutorial without CSV",
    "tutorial_zraw": "tutorial, .zraw",
    "tutorial_zraw_without_csv": "tutorial without CSV, .zraw",
    "project_zraw_synced": "project, .zraw, on disk",
    "project_zraw": "project, .zraw",
    "project_synced": "project, on disk",
    "project": "project",
}
GREY, BLUE, RED = "#8a8f98", "#1f6fb4", "#c0392b"


def draw(results: Results, path: Path) -> None:
    """Write the plot of the measured parts; no file if there is nothing to draw."""
    from matplotlib.figure import Figure

    drawers = {"one_series": _draw_ways, "growth": _draw_growth, "unchanged": _draw_unchanged}
    present = {name: drawer for name, drawer in drawers.items() if results.get(name)}
    if not present:
        return
    figure = Figure(figsize=(5.6 * len(present), 4.4), layout="constrained")
    for axes, (name, drawer) in zip(figure.subplots(1, len(present), squeeze=False)[0], present.items(), strict=True):
        drawer(axes, results[name])
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def _draw_ways(axes: Axes, section: Results) -> None:
    names = [name for name in LABELS if name in section]
    medians = [section[name]["median_ms"] for name in names]
    colours = [BLUE if name.startswith("project") else GREY for name in names]
    bars = axes.barh([LABELS[name] for name in names], medians, color=colours)
    axes.bar_label(bars, labels=[f" {value:,.0f}" for value in medians])
    limit = limit_ms(section, is_synced=False)
    axes.axvline(limit, color=RED, linestyle="--", label=f"limit: read + write the bytes, {limit:,.0f} ms")
    axes.set_xscale("log")
    axes.set_xlim(0.3 * min(limit, *medians), 2.5 * max(medians))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.invert_yaxis()
    axes.set_xlabel("ms a series (logarithmic)")
    axes.set_title("Cutting one series")
    axes.legend(loc="lower right", fontsize="small")


def _draw_growth(axes: Axes, section: Results) -> None:
    counts = np.array([int(count) for count in section["by_candidates"]])
    _draw_spread(axes, counts, list(section["by_candidates"].values()), scale=1, color=BLUE)
    fit = section["fit"]
    line = fit["intercept_ms"] + fit["microseconds_a_candidate"] / 1000 * counts
    words = f"{fit['intercept_ms']:.0f} ms + {fit['microseconds_a_candidate']:.0f} µs a candidate"
    axes.plot(counts, line, color=RED, linestyle="--", label=f"{words}, R² {fit['r_squared']:.3f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("candidates of a series")
    axes.set_ylabel("ms a series")
    axes.set_title("Growth with candidates")
    axes.legend(loc="upper left", fontsize="small")


def _draw_unchanged(axes: Axes, section: Results) -> None:
    counts = np.array([int(count) for count in section["by_series"]])
    luna16 = section["luna16"]
    for name, colour, words in (("by_files", GREY, "without the note"), ("by_note", BLUE, "by its note")):
        timings = [both[name] for both in section["by_series"].values()]
        _draw_spread(axes, counts, timings, scale=1000, color=colour, label=words)
        label = f"{words}, {luna16['num_rows']:,} rows"
        axes.plot(luna16["num_series"], luna16[name]["median_ms"] / 1000, "D", color=colour, mec="black", label=label)
    axes.axhline(1, color=RED, linestyle="--")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(counts, labels=[f"{count:,}" for count in counts])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("series")
    axes.set_ylabel("seconds")
    axes.set_title("Finding that nothing changed")
    axes.legend(loc="best", fontsize="small")


def _draw_spread(axes: Axes, counts: NDArray[np.int64], timings: list[Results], *, scale: float, **style: Any) -> None:
    median, low, high = (
        np.array([timing[f"{name}_ms"] for timing in timings]) / scale for name in ("median", "min", "max")
    )
    axes.errorbar(counts, median, yerr=[median - low, high - median], fmt="o-", capsize=3, **style)
