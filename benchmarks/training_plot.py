"""The results of training as one plot: loading, training steps and evaluation."""

from pathlib import Path
from typing import Any

from benchmarks.plot import BLUE, GREY, RED, Axes, Results


def draw(results: Results, path: Path) -> None:
    """Write the plot of the measured parts; no file if there is nothing to draw."""
    from matplotlib.figure import Figure

    sizes, steps = results["workload"], results.get("steps", {})
    panels: dict[str, tuple[Any, int]] = {
        "Loading": (results.get("loading"), sizes["num_loaded"]),
        "Training": (steps.get("training"), sizes["batch_size"]),
        "Evaluation": (steps.get("evaluation"), sizes["num_evaluated"]),
    }
    present = {title: panel for title, panel in panels.items() if panel[0]}
    if not present:
        return
    figure = Figure(figsize=(5.6 * len(present), 3.6), layout="constrained")
    for axes, (title, panel) in zip(figure.subplots(1, len(present), squeeze=False)[0], present.items(), strict=True):
        _draw_rates(axes, *panel, title=title)
    figure.savefig(path, dpi=150)


def _draw_rates(axes: Axes, section: Results, num_samples: int, *, title: str) -> None:
    rates = [1000 * num_samples / timing["median_ms"] for timing in section.values()]
    colours = [BLUE if name.startswith("project") else RED if name == "memcpy" else GREY for name in section]
    bars = axes.barh([name.replace("_", " ") for name in section], rates, color=colours)
    axes.bar_label(bars, labels=[f" {rate:,.0f}" for rate in rates])
    if max(rates) > 20 * min(rates):
        axes.set_xscale("log")
    axes.set_xlim(right=1.6 * max(rates))
    axes.invert_yaxis()
    axes.set_xlabel("samples a second")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
