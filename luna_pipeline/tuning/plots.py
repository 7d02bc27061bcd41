"""A study as pictures: all trials as lines through what they tried, and how much each value mattered."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from luna_pipeline.core.evaluation.picture import COLOURS, DOTS_PER_INCH, GREY, SMALL, png_of
from luna_pipeline.tuning.domains import LogUniform
from luna_pipeline.tuning.study import StudyConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_OF_AXIS = 1.5
NUM_TICKS = 5


def parallel_coordinates_png(table: pd.DataFrame, study: StudyConfig, *, is_synthetic: bool = False) -> bytes:
    """Draw each trial as a line through the values that it tried to its score; the better, the darker.

    Args:
        table: See ``study_table``; trials without a score are left out.
        study: What was searched.
        is_synthetic: Whether the picture must say that the data are made up.

    Returns:
        A PNG file. The winner is drawn thick, the recipe as it is dashed.
    """
    known = table[table["score"].notna()].sort_values("score")
    places = [*study.space.domains, "score"]
    figure = Figure(figsize=(WIDTH_OF_AXIS * len(places) + 1.5, 4.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    heights = np.column_stack([_heights(known[place], study, place) for place in places])
    for position, (_, row) in enumerate(known.iterrows()):
        axes.plot(range(len(places)), heights[position], **_look(row, position / max(1, len(known) - 1)))
    for position, place in enumerate(places):
        _draw_axis(axes, position, known[place], study, place)
    axes.set_xticks(range(len(places)), [_name(place, study) for place in places], fontsize=SMALL)
    axes.set_yticks([])
    axes.set_xlim(-0.3, len(places) - 0.4)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{len(known)} trials, validation {study.metric.upper()}", fontsize=11)
    if len(known):
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, -0.25), ncols=2, fontsize=SMALL, frameon=False)
    return png_of(figure, is_synthetic=is_synthetic)


def importance_png(shares: dict[str, float], *, is_synthetic: bool = False) -> bytes:
    """Draw how much each value mattered, as bars.

    Args:
        shares: See ``importances``; nothing where too little is known, which the picture then says.
        is_synthetic: Whether the picture must say that the data are made up.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(7.0, 1.4 + 0.36 * max(1, len(shares))), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    if not shares:
        axes.text(0.5, 0.5, "too few trials to tell", ha="center", va="center", color=GREY)
        axes.set_yticks([])
    bars = axes.barh(list(shares)[::-1], list(shares.values())[::-1], color=COLOURS[0], height=0.6)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=SMALL)
    axes.set_xlim(0.0, 1.08)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_xlabel("Share of what the score moved by (fANOVA)")
    axes.spines[["top", "right"]].set_visible(False)
    return png_of(figure, is_synthetic=is_synthetic)


def _heights(values: pd.Series, study: StudyConfig, place: str) -> NDArray[np.float64]:
    """Return where each value is drawn, from 0 to 1."""
    positions = _positions(values, study, place)
    low, high = (positions.min(), positions.max()) if len(positions) else (0.0, 1.0)
    return (positions - low) / (high - low) if high > low else np.full(len(positions), 0.5)


def _positions(values: pd.Series, study: StudyConfig, place: str) -> NDArray[np.float64]:
    if not pd.api.types.is_numeric_dtype(values):
        words = sorted(values.unique())
        return np.array([words.index(value) for value in values], dtype=np.float64)
    numbers = values.to_numpy(dtype=np.float64)
    return np.log10(numbers) if _is_logarithmic(study, place) else numbers


def _draw_axis(axes: "Axes", position: int, values: pd.Series, study: StudyConfig, place: str) -> None:
    axes.axvline(position, color=GREY, linewidth=0.8, zorder=0)
    marks = pd.DataFrame({"value": values, "height": _heights(values, study, place)}).drop_duplicates("height")
    marks = marks.sort_values("height")
    if len(marks) > NUM_TICKS:
        # Of many values those next to even heights, so that their words do not lie on each other.
        even = np.linspace(0, 1, NUM_TICKS)
        nearest = {int(np.abs(marks["height"].to_numpy() - height).argmin()) for height in even}
        marks = marks.iloc[sorted(nearest)]
    for _, mark in marks.iterrows():
        text = f"{mark['value']:.3g}" if isinstance(mark["value"], float) else str(mark["value"])
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
        axes.text(position + 0.03, mark["height"], text, fontsize=SMALL - 1, va="center", bbox=box)


def _look(row: pd.Series, share: float) -> dict[str, Any]:
    """Return how a trial is drawn; ``share`` is 0 for the worst and 1 for the best."""
    if row["rank"] == 1:
        return {"color": COLOURS[1], "linewidth": 2.6, "zorder": 3, "label": f"the winner, trial {row['trial']}"}
    if row["trial"] == 0:
        return {"color": COLOURS[6], "linewidth": 1.6, "linestyle": "--", "zorder": 2, "label": "the recipe as it is"}
    return {"color": COLOURS[0], "linewidth": 1.0, "alpha": 0.15 + 0.75 * share, "zorder": 1}


def _is_logarithmic(study: StudyConfig, place: str) -> bool:
    return isinstance(study.space.domains.get(place), LogUniform)


def _name(place: str, study: StudyConfig) -> str:
    return study.metric.upper() if place == "score" else place.replace(".", "\n")
