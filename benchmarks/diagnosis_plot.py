"""The seconds of a diagnosis by stage, and its memory, as one plot."""

from pathlib import Path
from typing import Any

Results = dict[str, Any]
COLOURS = {
    "lungs": "#7fb07a",
    "segmentation": "#1f6fb4",
    "grouping": "#d9a441",
    "classification": "#8a8f98",
    "reading": "#c9ccd1",
    "outputs": "#e2e4e8",
}
LABELS = {"plain": "the book's procedure,\none at a time", "book": "recipe book", "default": "recipe default"}
RED = "#c0392b"


def draw(results: Results, path: Path) -> None:
    """Write the plot as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.9), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=[1.5, 1])
    _draw_seconds(axes[0], results)
    if results.get("large"):
        _draw_memory(axes[1], results["large"])
    else:
        axes[1].set_axis_off()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def _draw_seconds(axes: Any, results: Results) -> None:
    names = [name for name in LABELS if name in results["seconds"]]
    left = dict.fromkeys(names, 0.0)
    for stage, colour in COLOURS.items():
        values = [results["seconds"][name].get(stage, 0.0) for name in names]
        if any(values):
            axes.barh([LABELS[name] for name in names], values, left=list(left.values()), color=colour, label=stage)
        left = {name: left[name] + value for name, value in zip(names, values, strict=True)}
    for position, name in enumerate(names):
        ratio = f" ({results['ratios'][name]:.1f} times as fast)" if name in results["ratios"] else ""
        axes.text(left[name], position, f" {results['seconds'][name]['total']:.1f} s{ratio}", va="center")
    axes.set_xlim(0, 1.3 * max(left.values()))
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(f"{results['scan']}: {results['size_irc'][0]} slices, {results['machine']['num_cores']} cores")
    axes.legend(loc="lower right", fontsize="small")


def _draw_memory(axes: Any, large: Results) -> None:
    names = list(large)
    bars = axes.barh(
        [f"recipe {name}" for name in names], [large[name]["above_mib"] for name in names], color="#1f6fb4"
    )
    axes.bar_label(
        bars,
        labels=[f"{large[name]['above_mib']:,.0f} MiB, {large[name]['seconds']['total']:.0f} s" for name in names],
        # Beside the bars they would lie on the line of the limit.
        label_type="center",
        color="white",
    )
    first = large[names[0]]
    limit = 3 * first["float32_mib"]
    axes.axvline(limit, color=RED, linestyle="--", label=f"three times the CT as float32, {limit:,.0f} MiB")
    axes.set_xlim(0, 1.5 * max(limit, *(each["above_mib"] for each in large.values())))
    axes.invert_yaxis()
    axes.set_xlabel("MiB above imports and models")
    axes.set_title(f"{first['num_slices']} slices, from file to report")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False, fontsize="small")
